"""What is usual: median and spread of the bars before, for every bar and symbol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_MAD_TO_SIGMA: Final = 1.4826
_MEAN_DEVIATION_TO_SIGMA: Final = 1.2533


@dataclass(frozen=True)
class Baseline:
    """Location and scale of a quantity at each bar, from earlier bars alone; (T, S) each, NaN where unknown.

    Attributes
    ----------
    median
        Median of the trailing window.
    scale
        Robust standard deviation of the trailing window.
    unit
        What amounts are divided by before their logarithm is taken: their mean over the window. 1 elsewhere.
    """

    median: Float64
    scale: Float64
    unit: Float64

    def head(self, bars: int) -> Baseline:
        """Return the baseline of the first bars."""
        return Baseline(self.median[:bars], self.scale[:bars], self.unit[:bars])


def log_amount(amount: Float64, unit: Float64) -> Float64:
    """Return log(1 + amount / unit): free of scale, defined where nothing was traded."""
    return np.log1p(amount / unit)


def trailing_baseline(
    values: Float64,
    bar_number: NDArray[np.int64],
    *,
    window: int,
    refresh: int,
    minimum: int,
    floor: float,
    amounts: bool = False,
) -> Baseline:
    """Compute a baseline from strictly past bars.

    It is renewed every `refresh` bars, on a grid of absolute time, and then holds the `window` bars before
    the renewal: no bar sees itself or a later one, and where the panel begins does not matter.

    Parameters
    ----------
    values
        (T, S) quantity; NaN = missing.
    bar_number
        (T,) consecutive numbers of the bars: open_time / interval.
    window
        Bars looked back upon.
    refresh
        Bars between renewals.
    minimum
        Known bars in the window below which the baseline is unknown.
    floor
        Least scale; keeps the first trade after a dead calm finite.
    amounts
        The quantity is a non-negative amount: its baseline is that of `log_amount`.

    Notes
    -----
    Scale is the larger of 1.4826 times the median absolute deviation (MAD) and 1.2533 times the mean absolute
    deviation, both consistent for the normal distribution. The second is what Iglewicz and Hoaglin ("How to
    Detect and Handle Outliers", 1993) take where more than half of the values are equal, as in thinly traded
    markets.
    """
    bars, symbols = values.shape
    median, scale = np.full((symbols, bars), np.nan), np.full((symbols, bars), np.nan)
    unit = np.ones((symbols, bars)) if not amounts else np.full((symbols, bars), np.nan)
    by_symbol = np.ascontiguousarray(values.T)
    block = bar_number // refresh
    starts = np.flatnonzero(np.diff(block, prepend=block[0] - 1))
    for start, end in zip(starts, [*starts[1:], bars], strict=True):
        # The panel may begin inside a block: the block's own bars before that are not there to look at.
        first = start - int(bar_number[start] - block[start] * refresh)
        past = by_symbol[:, max(first - window, 0) : max(first, 0)]
        known = np.count_nonzero(~np.isnan(past), axis=1)
        enough = known >= minimum
        if not enough.any():
            continue
        past, known = past[enough], known[enough]
        if amounts:
            mean = np.nansum(past, axis=1) / known
            mean[mean == 0] = np.nan
            unit[enough, start:end] = mean[:, None]
            past = log_amount(past, mean[:, None])
            known = np.count_nonzero(~np.isnan(past), axis=1)
        centre = _median(past, known)
        deviation = np.abs(past - centre[:, None])
        with np.errstate(invalid="ignore"):
            mean_deviation = np.nansum(deviation, axis=1) / known
            spread = np.maximum(
                _MAD_TO_SIGMA * _median(deviation, known), _MEAN_DEVIATION_TO_SIGMA * mean_deviation
            )
        median[enough, start:end] = centre[:, None]
        scale[enough, start:end] = np.maximum(spread, floor)[:, None]
    return Baseline(median.T, scale.T, unit.T)


def _median(values: Float64, known: NDArray[np.intp]) -> Float64:
    """Median of each row of which `known` values are not NaN; NaN where none is."""
    ordered = np.sort(values, axis=1)  # NaN last
    low = np.maximum(known - 1, 0) // 2
    high = known // 2
    rows = np.arange(len(values))
    return 0.5 * (ordered[rows, low] + ordered[rows, np.minimum(high, values.shape[1] - 1)])
