"""Features of several intervals on one time grid, each as far as it was known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kernels.compute import FeatureBlock
from kernels.errors import BadPanel


def side_by_side(
    base: FeatureBlock, interval_ms: int, others: Mapping[str, tuple[FeatureBlock, int]]
) -> FeatureBlock:
    """Put features of other intervals beside those of a base interval.

    Parameters
    ----------
    base
        Features of the base interval.
    interval_ms
        Length of its bars.
    others
        Interval name -> (features, length of a bar in ms).

    Returns
    -------
    FeatureBlock
        The base's features, then ``<name>@<interval>`` for each other one, on the base's times and symbols. At a bar it
        has the values of the other interval's last bar that had closed when this bar closed; NaN where there is none,
        and for symbols that the other block does not have.

    Raises
    ------
    BadPanel
        A block's bars are not `interval_ms` apart.
    """
    _check("the base", base, interval_ms)
    planes, names = [base.values], list(base.names)
    for interval, (block, length) in others.items():
        _check(interval, block, length)
        planes.append(_as_known_at(base, interval_ms, block, length))
        names += [f"{name}@{interval}" for name in block.names]
    return FeatureBlock(np.concatenate(planes), tuple(names), base.open_time, base.symbols)


def _as_known_at(base: FeatureBlock, interval_ms: int, block: FeatureBlock, length: int) -> np.ndarray:
    closed = base.open_time + interval_ms
    row = np.floor_divide(closed - block.open_time[0], length) - 1
    # a bar that closed longer ago than one bar of its interval is not the last one: the block ends too early
    known = (row >= 0) & (row < len(block.open_time))
    place = {symbol: s for s, symbol in enumerate(block.symbols)}
    values = np.full((len(block.names), len(base.open_time), len(base.symbols)), np.nan, dtype=np.float32)
    for s, symbol in enumerate(base.symbols):
        if symbol in place:
            values[:, known, s] = block.values[:, row[known], place[symbol]]
    return values


def _check(what: str, block: FeatureBlock, interval_ms: int) -> None:
    steps = np.diff(block.open_time)
    if not len(block.open_time) or (steps != interval_ms).any():
        raise BadPanel(
            f"bars of {what} are not {interval_ms} ms apart",
            where=f"{len(block.open_time)} bars",
            remedy="give the interval's length as market.intervals.interval_ms says it",
        )
