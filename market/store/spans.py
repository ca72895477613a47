"""Algebra of half-open time spans, vectorised over many symbols at once.

A set of spans is an int64 array of shape (n, 2): rows [start, end), ascending and disjoint. The spans of many
symbols lie on one line: `place` moves each symbol's times into a stretch of its own, so one pass answers for
all symbols.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]

_TIME_BITS: Final = 43
TIME_LIMIT: Final = 1 << _TIME_BITS
"""Times (ms) must lie in [0, TIME_LIMIT), which ends in the year 2248."""

SYMBOL_LIMIT: Final = 1 << (63 - _TIME_BITS)
"""Symbol numbers must lie in [0, SYMBOL_LIMIT)."""


def place(symbol_id: Int64s, times: Int64s) -> Int64s:
    """Return the places of times (ms) of symbols on the common line."""
    return (np.asarray(symbol_id, np.int64) << _TIME_BITS) + np.asarray(times, np.int64)


def unplace(places: Int64s) -> tuple[Int64s, Int64s]:
    """Return the symbol numbers and times of places."""
    return places >> _TIME_BITS, places & (TIME_LIMIT - 1)


def none() -> Int64s:
    """Return the empty set of spans."""
    return np.empty((0, 2), np.int64)


def merge(spans: Int64s) -> Int64s:
    """Return any spans, unordered and overlapping ones too, as a set: touching ones become one."""
    spans = spans[spans[:, 0] < spans[:, 1]]
    if not len(spans):
        return none()
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(spans[:, 1])
    opens = np.concatenate(([True], spans[1:, 0] > reach[:-1]))
    last = np.concatenate((opens[1:], [True]))
    return np.stack((spans[opens, 0], reach[last]), axis=1)


def runs(points: Int64s, step: int) -> Int64s:
    """Return the spans of ascending points, each of which covers [point, point + step)."""
    if not len(points):
        return none()
    breaks = np.flatnonzero(np.diff(points) != step)
    first = np.concatenate(([0], breaks + 1))
    last = np.concatenate((breaks, [len(points) - 1]))
    return np.stack((points[first], points[last] + step), axis=1)


def index_of(spans: Int64s, points: Int64s) -> Int64s:
    """Return for each point the row of the span that holds it, -1 where none does."""
    if not len(spans):
        return np.full(len(points), -1, np.int64)
    row = np.searchsorted(spans[:, 0], points, side="right") - 1
    held = (row >= 0) & (points < spans[np.maximum(row, 0), 1])
    return np.where(held, row, -1)


def meet(spans: Int64s, others: Int64s) -> NDArray[np.bool_]:
    """Tell for each span, ordered or not, whether it overlaps one of the others, which are a set; (n,)."""
    if not len(others):
        return np.zeros(len(spans), bool)
    after = np.searchsorted(
        others[:, 1], spans[:, 0], side="right"
    )  # the first that ends after the span begins
    return (after < len(others)) & (others[np.minimum(after, len(others) - 1), 0] < spans[:, 1])


def subtract(spans: Int64s, holes: Int64s) -> tuple[Int64s, Int64s]:
    """Cut one set of spans out of another.

    Returns
    -------
    rest, origin : int64 (n, 2), int64 (n,)
        What is left of `spans`, and which row of `spans` each piece is left of: touching spans stay apart.
    """
    if not len(spans) or not len(holes):
        return spans, np.arange(len(spans), dtype=np.int64)
    edges = np.unique(np.concatenate((spans.ravel(), holes.ravel())))
    origin = index_of(spans, edges[:-1])
    keep = (origin >= 0) & (index_of(holes, edges[:-1]) < 0)
    start, end, origin = edges[:-1][keep], edges[1:][keep], origin[keep]
    if not len(start):
        return none(), origin
    opens = np.concatenate(([True], (start[1:] != end[:-1]) | (origin[1:] != origin[:-1])))
    last = np.concatenate((opens[1:], [True]))
    return np.stack((start[opens], end[last]), axis=1), origin[opens]
