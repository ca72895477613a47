"""What is judged: rows of one or several test spans on one axis of bars, with their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.data.folds import Fold
from training.data.training_set import Outcomes

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Sample:
    """Rows with their outcomes; arrays of (n,), by time, then symbol.

    Attributes
    ----------
    place
        Bar of each row among those of all test spans, one span after the other.
    symbol
        Index of its symbol.
    fold
        Number of its fold.
    direction, log_return, volatility, realised_volatility
        See `training.data.training_set.Outcomes`; float64.
    times
        Bars of the axis, with rows or without.
    symbols
        Number of symbols.
    horizon
        Bars that an outcome reaches ahead.
    levels
        Of the quantiles.
    open_time
        (times,) ms since epoch, UTC.
    """

    place: NDArray[np.integer]
    symbol: NDArray[np.integer]
    fold: NDArray[np.integer]
    direction: NDArray[np.integer]
    log_return: Floats
    volatility: Floats
    realised_volatility: Floats
    times: int
    symbols: int
    horizon: int
    levels: tuple[float, ...]
    open_time: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.place)

    def per_time(self, *columns: Floats) -> Floats:
        """Sums (times, K) per bar of K columns (n,)."""
        sums = [np.bincount(self.place, column, self.times) for column in columns]
        return np.column_stack(sums)

    def of_fold(self, index: int) -> tuple[Sample, NDArray[np.bool_], slice]:
        """Rows of one fold alone on its own axis, which rows these are, and which bars."""
        mine = self.fold == index
        bars = fold_bars(self, index)
        chosen = self._rows(mine)
        moved = replace(chosen, place=chosen.place - bars.start, open_time=self.open_time[bars])
        return replace(moved, times=bars.stop - bars.start), mine, bars

    def of_symbol(self, index: int) -> tuple[Sample, NDArray[np.bool_]]:
        """Rows of one symbol alone, and which rows these are."""
        mine = self.symbol == index
        return self._rows(mine), mine

    def _rows(self, mine: NDArray[np.bool_]) -> Sample:
        names = ("place", "symbol", "fold", "direction", "log_return", "volatility", "realised_volatility")
        return replace(self, **{name: getattr(self, name)[mine] for name in names})


def fold_bars(sample: Sample, index: int) -> slice:
    """Bars of the axis that are those of one fold."""
    places = sample.place[sample.fold == index]
    return slice(int(places[0]), int(places[-1]) + 1)


def sample_of(folds: Sequence[Fold]) -> Sample:
    """Join the test rows of folds."""
    rows = [np.asarray(fold.data.rows["test"]) for fold in folds]
    lengths = [int(found[-1, 0] - found[0, 0]) + 1 for found in rows]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    outcomes = [fold.data.outcomes(found) for fold, found in zip(folds, rows, strict=True)]
    joined = Outcomes(*(np.concatenate(arrays) for arrays in zip(*outcomes, strict=True)))
    data = folds[0].data
    return Sample(
        place=np.concatenate(
            [found[:, 0] - found[0, 0] + at for found, at in zip(rows, starts, strict=False)]
        ),
        symbol=np.concatenate([found[:, 1] for found in rows]),
        fold=np.repeat([fold.index for fold in folds], [len(found) for found in rows]),
        direction=joined.direction,
        log_return=joined.log_return.astype(np.float64),
        volatility=joined.volatility.astype(np.float64),
        realised_volatility=joined.realised_volatility.astype(np.float64),
        times=int(starts[-1]),
        symbols=len(data.manifest.symbols),
        horizon=data.manifest.config.horizon,
        levels=data.manifest.config.quantiles,
        open_time=np.concatenate([data.open_time[found[0, 0] : found[-1, 0] + 1] for found in rows]),
    )
