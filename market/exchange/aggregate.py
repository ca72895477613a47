"""Bars of longer intervals as exact aggregates of minutes, and the partial bar of a running minute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from market.exchange.minutes import (
    BAR_COLUMNS,
    CLOSE,
    HIGH,
    LOW,
    OPEN,
    QUOTE,
    TAKER_BASE,
    TAKER_QUOTE,
    TRADES,
    VOLUME,
)
from market.intervals import MONTH, grid_origin, interval_ms

Times = NDArray[np.int64]
Bars = NDArray[np.int64]


def bar_opens(times: Times, interval: str) -> Times:
    """Return the open time of the bar that each time falls into."""
    if interval == MONTH:
        months = times.astype("datetime64[ms]").astype("datetime64[M]")
        return months.astype("datetime64[ms]").astype(np.int64)
    return times - (times - grid_origin(interval)) % interval_ms(interval)


def bar_ends(opens: Times, interval: str) -> Times:
    """Return the first ms after each bar."""
    if interval == MONTH:
        months = opens.astype("datetime64[ms]").astype("datetime64[M]") + 1
        return months.astype("datetime64[ms]").astype(np.int64)
    return opens + interval_ms(interval)


def aggregate(times: Times, bars: Bars, interval: str) -> tuple[Times, Bars]:
    """Combine bars (ascending, shape (n, BAR_COLUMNS)) into those of a longer interval.

    Open of the first, highest high, lowest low, close of the last, sums of the rest. Missing minutes are
    simply not there; a bar without a single minute does not come into being.
    """
    if not len(times):
        return times, bars
    opens = bar_opens(times, interval)
    first = np.flatnonzero(np.concatenate(((True,), opens[1:] != opens[:-1])))
    last = np.concatenate((first[1:], (len(times),))) - 1
    combined = np.empty((len(first), BAR_COLUMNS), dtype=np.int64)
    combined[:, OPEN] = bars[first, OPEN]
    combined[:, HIGH] = np.maximum.reduceat(bars[:, HIGH], first)
    combined[:, LOW] = np.minimum.reduceat(bars[:, LOW], first)
    combined[:, CLOSE] = bars[last, CLOSE]
    combined[:, VOLUME:] = np.add.reduceat(bars[:, VOLUME:], first, axis=0)
    return opens[first], combined


def partial_minute(bar: Bars, elapsed_ms: int) -> Bars:
    """Return a one-minute bar (BAR_COLUMNS,) as it looks ``elapsed_ms`` after its open.

    The price moves in a straight line from open to close while the range widens and the sums grow in
    proportion; at 60,000 ms the bar is whole.
    """
    share = elapsed_ms / 60_000
    opened = int(bar[OPEN])
    partial = np.empty_like(bar)
    close = opened + round(share * (int(bar[CLOSE]) - opened))
    partial[OPEN], partial[CLOSE] = opened, close
    partial[HIGH] = max(opened, close, opened + int(share * (int(bar[HIGH]) - opened)))
    partial[LOW] = min(opened, close, opened - int(share * (opened - int(bar[LOW]))))
    mean_price = int(partial[: CLOSE + 1].sum()) // 4
    partial[VOLUME] = int(int(bar[VOLUME]) * share)
    partial[TRADES] = int(int(bar[TRADES]) * share)
    partial[TAKER_BASE] = int(int(bar[TAKER_BASE]) * share)
    partial[QUOTE] = int(partial[VOLUME]) * mean_price
    partial[TAKER_QUOTE] = int(partial[TAKER_BASE]) * mean_price
    return partial
