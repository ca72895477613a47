"""Why a symbol is not predicted at a bar, in words that say what to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

from kernels.catalogue import spec
from kernels.joins import split_name
from market.store import Panel
from market.wording import utc
from serving.bundle import Bundle
from serving.inputs import ModelInputs
from serving.intervals import IntervalPart, interval_parts


def skip_reasons(
    panels: Sequence[Panel],
    inputs: ModelInputs,
    bundle: Bundle,
    spans: Mapping[str, Mapping[str, tuple[int, int]]],
) -> dict[str, str]:
    """Return the reason of every symbol that has no complete window at the sweep's bar.

    Parameters
    ----------
    panels, inputs, bundle
        What the sweep read, the model's own interval first, and made of it for this model.
    spans
        By interval, first and last open time stored of every symbol that has bars.
    """
    parts = interval_parts(bundle, panels[0].interval)
    found = {}
    for at, symbol in enumerate(panels[0].symbols):
        if inputs.complete[at] and not np.isnan(panels[0].columns["close"][-1, at]):
            continue
        bad = ~np.isfinite(inputs.windows[at]).all(axis=0)
        names = {name for name, is_bad in zip(bundle.feature_names, bad, strict=True) if is_bad}
        reasons = (
            _reason(panel, at, part, names, spans[part.interval].get(symbol), joined=part is not parts[0])
            for panel, part in zip(panels, parts, strict=True)
        )
        found[symbol] = next(reason for reason in reasons if reason is not None)
    return found


def not_ready(panels: Sequence[Panel]) -> dict[str, tuple[str, ...]]:
    """Longer intervals, with the symbols that have the sweep's bar but not the longer one that belongs to it."""
    own = ~np.isnan(panels[0].columns["close"][-1])
    late = {
        panel.interval: tuple(np.array(panel.symbols)[own & np.isnan(panel.columns["close"][-1])].tolist())
        for panel in panels[1:]
    }
    return {interval: symbols for interval, symbols in late.items() if symbols}


def _reason(
    panel: Panel,
    at: int,
    part: IntervalPart,
    bad_names: Set[str],
    span: tuple[int, int] | None,
    *,
    joined: bool,
) -> str | None:
    """Why a symbol's features of one interval are not complete; None if they are."""
    names = [name for name in part.names if name in bad_names]
    stored = ~np.isnan(panel.columns["close"][:, at])
    if not names and (joined or stored[-1]):
        return None
    if span is None:
        return f"no bars: none of {panel.interval} are stored"
    bar = int(panel.open_time[-1])
    needed = part.warmup + part.window
    listed = int(np.count_nonzero(panel.open_time >= span[0]))
    of = f"{panel.interval} bar" if joined else "bar"
    short = f"too short: listed for {listed} {of}s, {needed} needed"
    if not stored[-1]:
        last = f"no {of} at {utc(bar)}, its last opened {utc(_last_before(panel, at, span))}"
        return short if not listed else f"not ready: {last}" if joined else f"stale: {last}"
    if listed < needed:
        return short
    within = stored[-part.window :]
    if not within.all():
        first = int(panel.open_time[-part.window :][~within][0])
        missing = part.window - int(within.sum())
        return f"gap: {missing} of the window's {part.window} {of}s are missing, the first at {utc(first)}"
    inputs = [column for name in names for column in spec(split_name(name)[0]).inputs]
    unknown = [
        column
        for column in dict.fromkeys(inputs)
        if column in panel.columns and np.isnan(panel.columns[column][-part.window :, at]).any()
    ]
    if unknown:
        return f"values unknown: the {of}s lack {', '.join(unknown)}, which {', '.join(names)} read"
    return f"gap: {of}s are missing in what {', '.join(names)} look back upon"


def _last_before(panel: Panel, at: int, span: tuple[int, int]) -> int:
    """Open time of the last bar before the panel's end; the span's end may lie behind it."""
    stored = np.flatnonzero(~np.isnan(panel.columns["close"][:, at]))
    return int(panel.open_time[stored[-1]]) if len(stored) else span[1]
