"""Whether a home is fit to predict now: bars fresh and whole, model sound, sweeps running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import polars as pl

from market.intervals import floor_time, interval_ms
from market.store import KlineStore
from market.wording import count, utc
from serving.bundle import Bundle, load_bundle
from serving.errors import ServingError
from serving.intervals import IntervalPart, interval_parts, own_intervals

Verdict = Literal["ready", "degraded", "not_ready"]

LATE_BARS: Final = 2
"""Bars that a symbol, or the last sweep, may be behind the exchange before it counts as late: while a bar is
being ingested or predicted, one is normal."""

_SHOWN: Final = 5
_INGEST: Final = "klinecast run ingest, or its schedule, fetches what has closed since"


@dataclass(frozen=True)
class Readiness:
    """The verdict and what led to it.

    Attributes
    ----------
    verdict
        ``ready``: a sweep now would predict every symbol from fresh bars. ``degraded``: it would predict
        some, or from late bars, or nobody has swept lately. ``not_ready``: it would fail or predict nobody.
    reasons
        Sentences, the gravest first; none when ready.
    """

    verdict: Verdict
    reasons: tuple[str, ...]


def assess(
    store: KlineStore,
    home: Path,
    now_ms: int,
    *,
    intervals: Sequence[str],
    symbols: Sequence[str],
) -> Readiness:
    """Assess a home. Reads spans, one window of closes, the last predictions and the bundle; writes nothing.

    Parameters
    ----------
    store, home
        What is assessed.
    now_ms
        Exchange time.
    intervals
        Those that are ingested.
    symbols
        Those that are followed.
    """
    fatal: list[str] = []
    lesser: list[str] = []
    bundle: Bundle | None = None
    try:
        loaded = load_bundle(home)
        for own in own_intervals(loaded):
            interval_parts(loaded, own)  # refuses what no sweep could use
        bundle = loaded
    except ServingError as error:
        fatal.append(f"no sound model: {error.what} ({error.where})")
    for interval in intervals:
        none_fresh, reasons = _freshness(store, interval, symbols, now_ms)
        lesser += reasons
        if none_fresh:
            (fatal if bundle is None or interval in bundle.intervals else lesser).append(none_fresh)
    if bundle is not None:
        for own in own_intervals(bundle):
            end = _stored_until(store, own, symbols, now_ms)
            for part in interval_parts(bundle, own):
                blind, reasons = _gaps(store, part, symbols, end)
                lesser += reasons
                if blind:
                    fatal.append(f"no symbol has a whole window of {part.window} {part.interval} bars")
            lesser += _last_sweep(store, bundle, own, now_ms)
    verdict: Verdict = "not_ready" if fatal else "degraded" if lesser else "ready"
    return Readiness(verdict, (*fatal, *lesser))


def _freshness(
    store: KlineStore, interval: str, symbols: Sequence[str], now_ms: int
) -> tuple[str, list[str]]:
    """Say that no symbol is fresh, empty where one is, and who is not."""
    step = interval_ms(interval)
    newest = floor_time(now_ms, interval) - step
    frame = store.spans(interval)
    last = dict(zip(frame["symbol"], frame["last_open_time"], strict=True))
    absent = [symbol for symbol in symbols if symbol not in last]
    late = {
        s: (newest - last[s]) // step for s in symbols if s in last and newest - last[s] > LATE_BARS * step
    }
    if not absent and len(late) == len(symbols) and len({last[symbol] for symbol in symbols}) == 1:
        # They all end together: nothing is wrong with any of them, but nobody has fetched what has closed since.
        bars = count(late[symbols[0]], "bar")
        return (
            f"no {interval} bar was fetched since that of {utc(last[symbols[0]])}, {bars} ago: {_INGEST}",
            [],
        )
    reasons = []
    if absent:
        reasons.append(f"{interval}: no bars of {_some(absent)}")
    if late:
        worst = max(late, key=lambda symbol: late[symbol])
        told = f"{worst} by {late[worst]:,} bars (its last opened {utc(last[worst])})"
        reasons.append(f"{interval}: {_some(list(late))} late, {told}")
    if len(absent) + len(late) < len(symbols):
        return "", reasons
    return f"none of the {len(symbols)} symbols has fresh {interval} bars: {_INGEST}", reasons


def _stored_until(store: KlineStore, interval: str, symbols: Sequence[str], now_ms: int) -> int | None:
    """End of the newest closed bar that any of the symbols has; None where none has any."""
    ends = store.spans(interval).filter(pl.col("symbol").is_in(list(symbols)))["last_open_time"].to_list()
    return min(floor_time(now_ms, interval), max(ends) + interval_ms(interval)) if ends else None


def _gaps(
    store: KlineStore, part: IntervalPart, symbols: Sequence[str], end: int | None
) -> tuple[bool, list[str]]:
    """Whether no symbol has a whole window at the bar that closes at `end`, and who lacks bars in it."""
    if end is None:
        return True, []
    interval = part.interval
    panel = store.panel(interval, symbols, bars=part.window, end=end, columns=("close",))
    missing = np.isnan(panel.columns["close"]).sum(axis=0)
    holed = [symbol for symbol, count in zip(symbols, missing, strict=True) if count]
    if not holed:
        return False, []
    reason = f"{interval}: bars missing in the last {part.window} of {_some(holed)}; they are not predicted"
    return len(holed) == len(symbols), [reason]


def _last_sweep(store: KlineStore, bundle: Bundle, interval: str, now_ms: int) -> list[str]:
    step = interval_ms(interval)
    newest = floor_time(now_ms, interval) - step
    lately = newest - LATE_BARS * step
    if store.predictions(interval, start=lately, model_version=bundle.version).height:
        return []
    return [
        f"no {interval} predictions by model {bundle.version} since the bar of {utc(lately)}:"
        " klinecast run prediction_sweep, or its schedule, makes them"
    ]


def _some(symbols: Sequence[str]) -> str:
    shown = ", ".join(symbols[:_SHOWN])
    return shown if len(symbols) <= _SHOWN else f"{shown} and {len(symbols) - _SHOWN} more"
