"""Which rows of an answer stand where their time does not belong.

A page's rows ascend in time. Where one does not, its time is wrong, or the whole row is another page's: it may look
sound and be a bar of no time that was asked for.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

OUT_OF_ORDER = "its open_time is out of order among the rows around it"
"""Reason for the quarantine."""


def out_of_order(open_time: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    """Tell which rows' times contradict the order of the others.

    As few rows as possible are blamed, so that one wrong digit costs one row. Rows in another order between which no
    bar is missing are only that, since a wrong time would leave a hole where it belongs. A row with the time of one
    that is in place is left to `market.klines.validate`, which refuses both if they contradict each other.

    Parameters
    ----------
    open_time : int64 (rows,)
        As received, ms.
    length : int
        Of the interval, ms.
    """
    if (open_time[1:] >= open_time[:-1]).all():
        return np.zeros(len(open_time), bool)
    distinct = np.unique(open_time)
    if (np.diff(distinct) == length).all():
        return np.zeros(len(open_time), bool)
    return ~np.isin(open_time, open_time[_longest_ascent(open_time.tolist())])


def _longest_ascent(times: list[int]) -> list[int]:
    """Return the positions of a longest subsequence that does not descend (patience sorting)."""
    ends: list[int] = []  # the least time in which an ascent of each length ends
    at_end: list[int] = []  # and its position
    before: list[int] = []
    for at, time in enumerate(times):
        pile = bisect_right(ends, time)
        before.append(at_end[pile - 1] if pile else -1)
        if pile == len(ends):
            ends.append(time)
            at_end.append(at)
        else:
            ends[pile], at_end[pile] = time, at
    found = [at_end[-1]] if at_end else []
    while found and before[found[-1]] >= 0:
        found.append(before[found[-1]])
    return found[::-1]


def places(open_time: NDArray[np.int64], misplaced: NDArray[np.bool_], length: int, start: int) -> set[int]:
    """Return the open times at which misplaced rows stand: where the row in place before each leads to."""
    found: set[int] = set()
    at = start
    for time, wrong in zip(open_time.tolist(), misplaced.tolist(), strict=True):
        if wrong:
            found.add(at)
            at += length
        else:
            at = time + length
    return found
