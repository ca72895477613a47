"""Features of longer intervals beside those of a model's own one: which longer bar belongs to a bar.

The one definition, for training and for serving. To bar t belongs the last bar of the longer interval that has
closed when bar t closes, that is, whose close_time is not after the close_time of t. It is found on the time grid:
where that very bar is missing, or not stored yet, its features are NaN, and no older bar stands in for it.

A feature of a longer interval is called ``<feature>@<interval>``, such as ``rsi_14@1h``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.errors import BadPanel, UnknownFeature
from kernels.file_maps import read_planes
from kernels.panel import say_time

MARK: Final = "@"
"""Stands between feature and interval in the name of a joined feature."""

NOT_THERE: Final = -1
"""Row of a bar that a block does not reach to."""


class BlockLike(Protocol):
    """Features of one interval, as `kernels.compute.FeatureBlock` has them."""

    @property
    def values(self) -> NDArray[np.float32]:
        """(F, T, S), NaN where a feature has no value."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """F names."""
        ...

    @property
    def open_time(self) -> NDArray[np.int64]:
        """(T,) ms since epoch UTC, a complete grid."""
        ...

    @property
    def symbols(self) -> tuple[str, ...]:
        """S names."""
        ...


class IntervalFeatures(NamedTuple):
    """Features of one interval."""

    interval: str
    step_ms: int
    """Length of a bar."""
    block: BlockLike
    chosen: tuple[str, ...] | None = None
    """Those of the block's features that are joined, in this order; None: all of them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Features that are joined."""
        return tuple(self.block.names) if self.chosen is None else self.chosen

    @property
    def planes(self) -> list[int]:
        """Where they are in the block."""
        return [self.block.names.index(name) for name in self.names]


def joined_name(feature: str, interval: str) -> str:
    """Name that a feature of a longer interval has beside those of a model's own one."""
    return f"{feature}{MARK}{interval}"


def split_name(name: str) -> tuple[str, str | None]:
    """Return the feature and the longer interval that a name speaks of; None for the model's own interval."""
    feature, mark, interval = name.partition(MARK)
    return feature, interval if mark else None


def features_by_interval(names: Iterable[str], base: str) -> dict[str, tuple[str, ...]]:
    """Sort names by interval.

    Parameters
    ----------
    names
        Feature names, joined or not.
    base
        The model's own interval.

    Returns
    -------
    dict
        Interval to its features, as the catalogue calls them; the base first, the others as they appear.

    Raises
    ------
    UnknownFeature
        A name has no feature or no interval, or marks the base as if it were another one.
    """
    found: dict[str, list[str]] = {base: []}
    for name in names:
        feature, interval = split_name(name)
        if not feature or interval in ("", base):
            raise UnknownFeature(
                f"{name!r} is no name of a feature beside those of {base}",
                where="feature list",
                remedy=f"call it <feature>, or <feature>{MARK}<longer interval> such as rsi_14{MARK}1d",
            )
        found.setdefault(interval or base, []).append(feature)
    return {interval: tuple(features) for interval, features in found.items()}


def intervals_of(names: Iterable[str], base: str) -> tuple[str, ...]:
    """Intervals that features of these names are of, the base first."""
    return tuple(features_by_interval(names, base))


def longer_bars(bars: int, step_ms: int, longer_step_ms: int) -> int:
    """Most bars of a longer interval that belong to `bars` successive bars."""
    return -(-(bars - 1) * step_ms // longer_step_ms) + 1


def due_bars(open_time: NDArray[np.int64], step_ms: int, longer: IntervalFeatures) -> NDArray[np.int64]:
    """Find the longer bar that belongs to each bar.

    Parameters
    ----------
    open_time
        (T,) of the bars, ms since epoch UTC.
    step_ms
        Their length.
    longer
        The longer interval.

    Returns
    -------
    ndarray
        (T,) int64 rows of the longer block's time axis; `NOT_THERE` where the bar lies before or after it.

    Raises
    ------
    BadPanel
        The longer interval is not a whole multiple of the shorter, its bars do not close together with shorter
        ones, or are no complete grid.
    """
    times = longer.block.open_time
    if longer.step_ms <= step_ms or longer.step_ms % step_ms:
        raise BadPanel(
            f"bars of {longer.interval} are no whole number of the model's bars, and more than one",
            where=f"{longer.step_ms} ms and {step_ms} ms",
            remedy="join intervals that are whole multiples of the model's own one, such as 1h and 4h to 15m",
        )
    wrong = np.flatnonzero(np.diff(times) != longer.step_ms)
    if len(wrong):
        raise BadPanel(
            f"the bars of {longer.interval} are no complete grid",
            where=f"after {say_time(times[wrong[0]])}",
            remedy="keep a row of NaN for every missing bar, as KlineStore.panel does",
        )
    if not len(times):
        return np.full(len(open_time), NOT_THERE, np.int64)
    if ((open_time - times[0]) % step_ms).any():
        raise BadPanel(
            f"the bars of {longer.interval} do not close together with bars of the model's own interval",
            where=f"{say_time(times[0])} and {say_time(open_time[0])}",
            remedy="take both from the store, which keeps them on one grid each",
        )
    # A bar of either interval closes 1 ms before open_time + length, so the 1 ms cancels out.
    rows = (open_time + step_ms - longer.step_ms - times[0]) // longer.step_ms
    return np.where((rows >= 0) & (rows < len(times)), rows, NOT_THERE)


class JoinedFeatures:
    """Features of several intervals at the bars of the first one; read piece by piece.

    Parameters
    ----------
    base
        The model's own interval: gives the time axis and the symbols.
    longer
        Further intervals. A symbol that one of them lacks is NaN in its features.

    Attributes
    ----------
    names
        F names: those of the base, then ``<feature>@<interval>`` of the longer ones.
    open_time, symbols
        Those of the base: (T,) and S.

    Raises
    ------
    BadPanel
        Intervals that cannot be joined (see `due_bars`), or one of them twice.

    Notes
    -----
    Holds the blocks as they are and 8 bytes per bar and longer interval; a piece is made when it is read. It
    depends on the bars asked for alone: any way to cut the time axis gives the same bits.
    """

    def __init__(self, base: IntervalFeatures, longer: Sequence[IntervalFeatures] = ()) -> None:
        self.open_time = base.block.open_time
        self.symbols = tuple(base.block.symbols)
        self._base = base
        self._longer = [
            (part, due_bars(self.open_time, base.step_ms, part), _columns(part.block.symbols, self.symbols))
            for part in longer
        ]
        self.names = (
            *base.names,
            *(joined_name(name, part.interval) for part in longer for name in part.names),
        )
        if len(set(self.names)) != len(self.names):
            raise BadPanel(
                "an interval or a feature is given twice",
                where=" ".join(part.interval for part in (base, *longer)),
                remedy="give each interval, and each of its features, once",
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(F, T, S)."""
        return len(self.names), len(self.open_time), len(self.symbols)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the features of the bars [start, stop), a new array (F, stop - start, S) float32."""
        out = np.empty((len(self.names), len(self.open_time[start:stop]), len(self.symbols)), np.float32)
        planes = iter(out)
        for own in read_planes(self._base.block.values, self._base.planes, start, stop):
            next(planes)[...] = own
        for part, due, columns in self._longer:
            rows = due[start:stop]
            for longer in read_planes(part.block.values, part.planes, 0, len(part.block.open_time)):
                _take(longer, rows, columns, next(planes))
        return out


def _columns(having: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64] | None:
    """Where the wanted symbols are; None if they are all there, in order."""
    if tuple(having) == tuple(wanted):
        return None
    place = {symbol: at for at, symbol in enumerate(having)}
    return np.array([place.get(symbol, NOT_THERE) for symbol in wanted], np.int64)


def _take(
    values: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64] | None,
    out: NDArray[np.float32],
) -> None:
    """Write rows and columns of (L, S') to (n, S), NaN where there is none."""
    if columns is None:
        columns = np.arange(values.shape[1])
    known, there = columns != NOT_THERE, rows != NOT_THERE
    out[...] = np.nan
    out[np.ix_(there, known)] = values[np.ix_(rows[there], columns[known])]
