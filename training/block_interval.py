"""Intervals from draws of blocks of time, and where there are too few blocks for one.

A bootstrap draws from the blocks that a sample holds. With one there is one possible draw; with few, draws scatter
less than samples of the population do, for the same reason as a standard deviation with the divisor n is too small,
and they are spread like a normal variable where the scatter itself is only estimated. So the distance of each end from
the score is stretched by sqrt(B / (B - 1)), and by the ratio of Student's t with B - 1 degrees of freedom to the normal
quantile, B being the number of blocks. Below `LEAST_BLOCKS` blocks there is no interval.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

LEAST_BLOCKS: Final = 10
"""Blocks below which no interval is told, and so nothing is called better or worse."""


def blocks_of(time: NDArray[np.integer], block: int) -> int:
    """Count the whole blocks of `block` distinct times that rows (n,) at `time` fill."""
    return len(np.unique(time)) // max(1, block)


def block_interval(value: float, draws: Floats, level: float, *, blocks: int) -> tuple[float, float] | None:
    """Two-sided interval of a score from a bootstrap of blocks.

    Parameters
    ----------
    value
        The score of the sample.
    draws
        (D,) the score of each resampled data set; NaN where it cannot be told.
    level
        Such as 0.95.
    blocks
        Blocks in the sample, see `blocks_of`.

    Returns
    -------
    (float, float) or None
        None where there are fewer than `LEAST_BLOCKS` blocks, or the score cannot be told in any draw.
    """
    from scipy.stats import norm
    from scipy.stats import t as student

    known = draws[np.isfinite(draws)]
    if blocks < LEAST_BLOCKS or not len(known):
        return None
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    rank = 0.5 + level / 2
    wider = student.ppf(rank, blocks - 1) / norm.ppf(rank) * np.sqrt(blocks / (blocks - 1)) - 1
    return float(low - wider * max(value - low, 0.0)), float(high + wider * max(high - value, 0.0))


def too_short(blocks: int, block: int) -> str:
    """Say why there is no interval."""
    have = f"{blocks} block{'' if blocks == 1 else 's'}"
    return f"the span is too short for intervals: it holds {have} of {block} bars, {LEAST_BLOCKS} are needed"
