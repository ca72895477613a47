"""Chronological splits with purge and embargo, in bars.

At a boundary b between two splits, rows t (windows end at bar t, labels span bars t+1..t+h) are taken out
twice::

    purge     b - h <= t < b              their labels reach into the later split
    embargo   b     <= t < b + embargo    their features are too close to the labels before the boundary

Windows after the boundary may look back over it: what lies behind is known then. (Lopez de Prado, Advances in
Financial Machine Learning, 2018, chapter 7.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from training.errors import TrainingSetError

SPLITS = ("train", "validation", "test")
SEEN_SPLITS = ("train", "validation")
"""Splits that a model is fitted to, stopped by and calibrated on: it has seen their bars, labels included."""


class SplitSpan(BaseModel):
    """Where a split lies, in open times (ms since epoch, UTC), and how many rows it has.

    `first_feature_time` is the oldest bar in any of its windows, `first_open_time` and `last_open_time` are
    the last bars of its first and last window, `last_label_time` is the last bar that a label of it depends
    on.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    first_feature_time: int
    first_open_time: int
    last_open_time: int
    last_label_time: int


@dataclass(frozen=True)
class Split:
    """A span of bars [start, stop) for the rows of one split, and what was cut off at its ends."""

    name: str
    start: int
    stop: int
    embargoed: tuple[int, int]
    purged: tuple[int, int]


def cut(bounds: Sequence[int], names: Sequence[str], *, horizon: int, embargo: int) -> tuple[Split, ...]:
    """Cut the bars [bounds[0], bounds[-1]) into consecutive splits.

    Parameters
    ----------
    bounds
        Rising bar indices, one more than `names`.
    names
        Names of the splits, in order of time.
    horizon, embargo
        Bars purged before and embargoed after each inner bound.

    Raises
    ------
    TrainingSetError
        A split has no bars left.
    """
    splits = []
    last = len(names) - 1
    for i, (name, (low, high)) in enumerate(zip(names, pairwise(bounds), strict=True)):
        start = low if i == 0 else low + embargo
        stop = high if i == last else high - horizon
        if start >= stop:
            raise TrainingSetError(
                f"{high - low} bars are too few: {embargo} are embargoed and {horizon} purged, none is left",
                where=f"split {name}",
                remedy="use a longer history, a shorter horizon or embargo, or a larger share for this split",
            )
        splits.append(Split(name, start, stop, embargoed=(low, start), purged=(stop, high)))
    return tuple(splits)


def chronological(
    first: int, stop: int, *, train_share: float, validation_share: float, horizon: int, embargo: int
) -> tuple[Split, ...]:
    """Train, validation and test splits by share of the time span [first, stop) in bars."""
    length = stop - first
    bounds = (
        first,
        first + int(length * train_share),
        first + int(length * (train_share + validation_share)),
        stop,
    )
    return cut(bounds, SPLITS, horizon=horizon, embargo=embargo)
