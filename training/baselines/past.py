"""What the close prices up to a bar tell about the past, for rows (t, s)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.baselines.protocol import Floats, Rows

LEAST_SHARE = 0.5
"""A mean over past bars counts if at least this share of them is there."""


def past_log_return(close: Floats, rows: Rows, bars: int) -> Floats:
    """Log return (n,) of the last `bars` bars; NaN where one of its ends is missing."""
    t, s = rows[:, 0], rows[:, 1]
    before = np.where(t >= bars, close[np.maximum(t - bars, 0), s], np.nan)
    return np.log(close[t, s] / before)


def past_realised_volatility(close: Floats, rows: Rows, bars: int, scaled_to: int | None = None) -> Floats:
    """Root of the sum of the squared 1-bar log returns of the last `bars` bars.

    Parameters
    ----------
    close
        (T, S), NaN where a bar is missing.
    rows
        (n, 2) of (t, s).
    bars
        How far to look back. The mean square of those returns that are there stands for the others.
    scaled_to
        Express it for that many bars (times the root of their ratio); by default for `bars`.

    Returns
    -------
    ndarray
        (n,) float64; NaN where less than `LEAST_SHARE` of the returns is there.
    """
    total, count = _running(close)
    t, s = rows[:, 0], rows[:, 1]
    start = np.maximum(t - bars, 0)
    there = count[t, s] - count[start, s]
    enough = (there >= LEAST_SHARE * bars) & (there > 0)
    mean = np.maximum(total[t, s] - total[start, s], 0.0) / np.maximum(there, 1)
    return np.where(enough, np.sqrt(mean * (scaled_to or bars)), np.nan)


def _running(close: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Sums (T, S) up to and including each bar of the squared returns, and of how many there are."""
    square = np.zeros(close.shape)
    count = np.zeros(close.shape, np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        step = np.diff(np.log(np.where(close > 0, close, np.nan)), axis=0)
    known = np.isfinite(step)
    np.cumsum(np.where(known, step, 0.0) ** 2, axis=0, out=square[1:])
    np.cumsum(known, axis=0, out=count[1:])
    return square, count
