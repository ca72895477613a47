"""Whether one of two forecasts is better on the same rows: a bootstrap of blocks of their differences.

Rows of one time stay together, and neighbouring times too, since labels overlap over a horizon (moving blocks,
Kuensch 1989). The p-value is one-sided: how often the mean of the resampled differences, moved so that its expectation
is zero, comes out at least as large as the mean found (White 2000, "A Reality Check for Data Snooping", for one rival).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.judgement.bootstrap import BlockDraws, interval

_BLOCKS = 1 << 22
"""Blocks that are drawn at a time."""


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference and how sure it is.

    Attributes
    ----------
    mean
        Mean over all rows.
    low, high
        Percentile interval at `level`, two-sided.
    p_value
        One-sided, of "the mean is not above zero"; never below 1 / (draws + 1).
    blocks
        Blocks that the time was long enough for.
    draws
        Resampled data sets.
    """

    mean: float
    low: float
    high: float
    p_value: float
    level: float
    blocks: int
    draws: int


def paired_difference(
    difference: NDArray[np.floating],
    time: NDArray[np.integer],
    *,
    block: int,
    draws: int,
    seed: int,
    level: float = 0.95,
) -> PairedDifference:
    """Bootstrap the mean of paired differences.

    Parameters
    ----------
    difference
        (n,) one figure a row, such as the loss of one forecast minus that of the other.
    time
        (n,) time of each row, any unit; rows of one time belong together.
    block
        Distinct times in a block; several horizons.
    draws, seed
        Resampled data sets, and their seed.
    level
        Of the interval.

    Returns
    -------
    PairedDifference
        All NaN, with `p_value` 1, where there are no rows.
    """
    distinct, place = np.unique(time, return_inverse=True)
    times = len(distinct)
    if not times:
        nan = float("nan")
        return PairedDifference(nan, nan, nan, 1.0, level, 0, 0)
    total = np.bincount(place, np.asarray(difference, np.float64), times)
    columns = np.stack([total, np.bincount(place, minlength=times)], axis=1).astype(np.float64)
    width = max(1, min(block, times))
    each = max(1, _BLOCKS // -(-times // width))
    pieces = [(start, min(each, draws - start)) for start in range(0, draws, each)]
    sums = np.concatenate(
        [BlockDraws(times, block=width, draws=n, seed=seed + start).sums(columns) for start, n in pieces]
    )
    resampled = sums[:, 0] / sums[:, 1]
    mean = float(columns[:, 0].sum() / columns[:, 1].sum())
    low, high = interval(resampled, level)
    beyond = int((resampled - resampled.mean() >= mean).sum())
    return PairedDifference(mean, low, high, (1 + beyond) / (draws + 1), level, times // width, draws)
