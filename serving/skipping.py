"""Why a symbol is not predicted at a bar, in words that say what to look at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from kernels.catalogue import spec
from market.store import Panel
from serving.bundle import Bundle
from serving.inputs import ModelInputs


def skip_reasons(
    panel: Panel, inputs: ModelInputs, bundle: Bundle, spans: Mapping[str, tuple[int, int]]
) -> dict[str, str]:
    """Return the reason of every symbol that has no complete window at the panel's last bar.

    Parameters
    ----------
    panel, inputs, bundle
        What the sweep read, and made of it for this model.
    spans
        First and last open time stored of every symbol that has bars.
    """
    return {
        symbol: _reason(panel, at, inputs, bundle, spans.get(symbol))
        for at, symbol in enumerate(panel.symbols)
        if not inputs.complete[at] or np.isnan(panel.columns["close"][-1, at])
    }


def _reason(panel: Panel, at: int, inputs: ModelInputs, bundle: Bundle, span: tuple[int, int] | None) -> str:
    if span is None:
        return f"no bars: none of {panel.interval} are stored"
    bar = int(panel.open_time[-1])
    stored = ~np.isnan(panel.columns["close"][:, at])
    if not stored[-1]:
        return f"stale: no bar at {utc(bar)}, its last opened {utc(_last_before(panel, at, span))}"
    warmup = max(spec(name).warmup for name in bundle.feature_names)
    listed = int(np.count_nonzero(panel.open_time >= span[0]))
    if listed < warmup + bundle.window:
        return f"too short: listed for {listed} bars, {warmup + bundle.window} needed"
    within = stored[-bundle.window :]
    if not within.all():
        first = int(panel.open_time[-bundle.window :][~within][0])
        missing = bundle.window - int(within.sum())
        return f"gap: {missing} of the window's {bundle.window} bars are missing, the first at {utc(first)}"
    bad = ~np.isfinite(inputs.windows[at]).all(axis=0)
    names = [name for name, is_bad in zip(bundle.feature_names, bad, strict=True) if is_bad]
    unknown = [
        column
        for column in dict.fromkeys(column for name in names for column in spec(name).inputs)
        if column in panel.columns and np.isnan(panel.columns[column][-bundle.window :, at]).any()
    ]
    if unknown:
        return f"values unknown: the bars lack {', '.join(unknown)}, which {', '.join(names)} read"
    return f"gap: bars are missing in what {', '.join(names)} look back upon"


def _last_before(panel: Panel, at: int, span: tuple[int, int]) -> int:
    """Open time of the last bar before the panel's end; the span's end may lie behind it."""
    stored = np.flatnonzero(~np.isnan(panel.columns["close"][:, at]))
    return int(panel.open_time[stored[-1]]) if len(stored) else span[1]


def utc(time_ms: int) -> str:
    """Write ms since the epoch as a person reads it."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
