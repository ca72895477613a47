"""Moving-block bootstrap of many scores at once (Kuensch 1989).

A score is a function of sums over time: a ratio of two of them, say. So each is kept as columns (T, K) of its sums
per bar, with all symbols of a bar together, since their outcomes depend on each other; a draw puts blocks of
neighbouring bars together until they are as long as the sample, and is one product of a sparse matrix with the sums of
all blocks. Every score of every forecast is drawn from the same blocks, so that differences of draws are paired. What
interval follows from the draws stands in training/block_interval.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_VALUES = 1 << 24
"""Block sums held at a time."""


@dataclass(frozen=True)
class Statistic:
    """A score as a function of sums over time.

    Attributes
    ----------
    columns
        (T, K) what each bar adds to the sums.
    finish
        (..., K) sums to the scores (...), NaN where there is none.
    upward
        The score of a random sample lies above that of the population (as a mean of absolute values does): the
        interval is moved down by as much as the draws lie above the sample.
    """

    columns: Floats
    finish: Callable[[Floats], Floats]
    upward: bool = False

    @property
    def value(self) -> float:
        """The score of the whole sample."""
        return float(self.finish(self.columns.sum(axis=0)))


class BlockDraws:
    """Resampled data sets of blocks of time.

    Parameters
    ----------
    times
        Bars in the sample.
    block
        Bars in a block; several horizons, since labels overlap over one.
    draws, seed
        Number of data sets, and the seed that they depend on.
    """

    def __init__(self, times: int, *, block: int, draws: int, seed: int) -> None:
        from scipy.sparse import csr_array

        self._width = max(1, min(block, times))
        each = -(-times // self._width)
        places = times - self._width + 1
        self._starts = np.random.default_rng(seed).integers(0, places, (draws, each))
        ends = np.arange(draws + 1) * each
        starts = self._starts.ravel()
        self._chosen = csr_array((np.ones(len(starts)), starts, ends), shape=(draws, places))

    def of(self, statistic: Statistic) -> Floats:
        """(draws,) values of a score."""
        return statistic.finish(self.sums(statistic.columns))

    def weights(self) -> Iterator[Floats]:
        """How often each bar (times,) is in each data set, for scores that are no function of sums."""
        places = self._chosen.shape[1]
        for starts in self._starts:
            begun = np.zeros(places + self._width)
            begun[:places] = np.bincount(starts, minlength=places)
            begun[self._width :] -= begun[:places].copy()
            yield begun.cumsum()[:-1]

    def sums(self, columns: Floats) -> Floats:
        """(draws, K) sums of columns (T, K)."""
        step = max(1, _VALUES // max(1, len(columns)))
        parts = [self._sums(columns[:, at : at + step]) for at in range(0, columns.shape[1], step)]
        return np.concatenate(parts, axis=1)

    def _sums(self, columns: Floats) -> Floats:
        up_to = np.zeros((len(columns) + 1, columns.shape[1]))
        np.cumsum(columns, axis=0, out=up_to[1:])
        found: Floats = self._chosen @ (up_to[self._width :] - up_to[: -self._width])
        return found
