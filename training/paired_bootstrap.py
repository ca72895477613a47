"""Whether one of two forecasts is better on the same rows: a bootstrap of blocks of their differences.

Rows of one time stay together, and neighbouring times too, since labels overlap over a horizon (moving blocks,
Kuensch 1989). The p-value is one-sided: how often the mean of the resampled differences, moved so that its expectation
is zero, comes out at least as large as the mean found (White 2000, "A Reality Check for Data Snooping", for one rival).
With few blocks that is too small: a bootstrap takes the scatter of the blocks found for that of all blocks. So the
p-value is never below that of Student's t over blocks that do not overlap, which knows how little few blocks tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.block_interval import block_interval, blocks_of
from training.bootstrap import BlockDraws

_BLOCKS = 1 << 22
"""Blocks that are drawn at a time."""


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference and how sure it is.

    Attributes
    ----------
    mean
        Mean over all rows.
    interval
        At `level`, two-sided, see `training.block_interval.block_interval`; None with too few blocks.
    p_value
        One-sided, of "the mean is not above zero": the larger of Student's t and the bootstrap, or Student's t alone
        where no draw lies beyond, which says no more than "below 1 / (draws + 1)". 1 with fewer than two blocks.
    blocks
        Whole blocks that the time was long enough for.
    draws
        Resampled data sets.
    """

    mean: float
    interval: tuple[float, float] | None
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
        Its mean is NaN, with `p_value` 1, where there are no rows.
    """
    distinct, place = np.unique(time, return_inverse=True)
    times = len(distinct)
    if not times:
        return PairedDifference(float("nan"), None, 1.0, level, 0, 0)
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
    blocks = blocks_of(distinct, block)
    beyond = int((resampled - resampled.mean() >= mean).sum())
    p_value = _student_p(columns, blocks)
    if beyond:
        p_value = max(p_value, (1 + beyond) / (draws + 1))
    told = block_interval(mean, resampled, level, blocks=blocks)
    return PairedDifference(mean, told, p_value, level, blocks, draws)


def _student_p(columns: NDArray[np.float64], blocks: int) -> float:
    """One-sided p-value of a mean from sums and counts (T, 2) per time, over `blocks` blocks of equally many times."""
    from scipy.stats import t as student

    if blocks < 2:
        return 1.0
    begins = np.arange(blocks) * len(columns) // blocks
    sums, counts = np.add.reduceat(columns, begins).T
    mean = sums.sum() / counts.sum()
    variance = blocks / (blocks - 1) * ((sums - mean * counts) ** 2).sum()
    if not variance:
        return 0.0 if mean > 0 else 1.0
    return float(student.sf(mean * counts.sum() / np.sqrt(variance), blocks - 1))
