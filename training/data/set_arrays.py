"""The large arrays of a training set, written and read piece by piece.

Memory is a few times one piece of `CHUNK_VALUES` values and a few bytes per (bar, symbol), however many features
there are; what is read through file maps is let go of after each piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np

from kernels.file_maps import release_pages
from kernels.windows import finite_bars, whole_windows
from training.config import CLASSES, ForecasterConfig, Normalisation
from training.data.targets import (
    NO_TARGET,
    direction_of,
    forward_log_return,
    forward_realised_volatility,
    horizon_volatility,
)

CHUNK_VALUES = 4 << 20
"""Values of a piece, 16 MiB as float32."""


class Features(Protocol):
    """Features of a complete time grid, as `kernels` FeatureBlock and JoinedFeatures have them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names along F."""

    @property
    def open_time(self) -> np.ndarray:
        """(T,) int64 ms since epoch, UTC."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names along S."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(F, T, S)."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """(F, stop - start, S) float32, NaN where a feature has no value."""


class Targets(NamedTuple):
    """What is to be learned at some bars, (n, S) each; see training/data/targets.py."""

    log_return: np.ndarray
    realised_volatility: np.ndarray
    volatility: np.ndarray
    direction: np.ndarray


def chunks(length: int, values_each: int) -> Iterator[slice]:
    """Cut an axis into pieces of at most `CHUNK_VALUES` values, or of one entry."""
    step = max(1, CHUNK_VALUES // max(1, values_each))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def write_grid(
    block: Features, close: np.ndarray, volatility_feature: str, config: ForecasterConfig, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Write features and targets of all bars to the folder of a training set.

    Returns
    -------
    finite, labelled
        (T, S) bool: whether a bar has every feature, and whether it has a target.
    """
    F, T, S = block.shape
    volatility = block.names.index(volatility_feature)
    types = {name: np.int8 if name == "direction" else np.float32 for name in Targets._fields}
    finite, labelled = np.empty((T, S), bool), np.empty((T, S), bool)
    with ExitStack() as files:
        features = files.enter_context(_ArrayFile(folder / "features.npy", (S, T, F), np.float32))
        others = {
            name: files.enter_context(_ArrayFile(folder / f"{name}.npy", (T, S), dtype))
            for name, dtype in types.items()
        }
        for span in chunks(T, F * S):
            piece = block.read(span.start, span.stop)
            for symbol in range(S):
                features.put((symbol * T + span.start) * F, piece[:, :, symbol].T)
            finite[span] = finite_bars(piece)
            targets = targets_of(piece[volatility], close[span.start : span.stop + config.horizon], config)
            for name, values in targets._asdict().items():
                others[name].put(span.start * S, values)
            labelled[span] = targets.direction != NO_TARGET
    return finite, labelled


class _ArrayFile:
    """A `.npy` file that is written in pieces.

    Not through a file map: its pages would count as this process's memory, 2 MiB for each place that is touched
    where the page cache holds large pages, and a full disk would kill the process instead of raising an error.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type) -> None:
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        descr = np.lib.format.dtype_to_descr(self._dtype)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": descr, "fortran_order": False, "shape": shape}
        )
        self._start = self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, at: int, values: np.ndarray) -> None:
        """Write values, in C order, from entry `at` of the flat array on."""
        self._file.seek(self._start + at * self._dtype.itemsize)
        self._file.write(np.ascontiguousarray(values, self._dtype).data)


def targets_of(volatility: np.ndarray, close: np.ndarray, config: ForecasterConfig) -> Targets:
    """Return the targets of n bars.

    Parameters
    ----------
    volatility
        (n, S) of the feature that scales them.
    close
        Close prices of these bars and of `config.horizon` bars after them, as far as there are such.
    """
    bars, horizon = len(volatility), config.horizon
    returns = forward_log_return(close, horizon)[:bars]
    realised = forward_realised_volatility(close, horizon)[:bars]
    scale = horizon_volatility(volatility, horizon)
    direction = direction_of(returns / scale, config.flat_band)
    return Targets(
        returns.astype(np.float32), realised.astype(np.float32), scale.astype(np.float32), direction
    )


def windows_complete(finite: np.ndarray, window: int) -> np.ndarray:
    """(T, S): whether the window that ends at this bar is complete; the definition is that of `kernels`."""
    complete = np.zeros(finite.shape, bool)
    if window <= len(finite):
        for symbols in chunks(finite.shape[1], 8 * len(finite)):
            complete[window - 1 :, symbols] = whole_windows(finite[:, symbols], window)
    return complete


def rows_where(usable: np.ndarray, start: int, kept: np.ndarray | None = None) -> np.ndarray:
    """Rows (t, s) int32 of the true entries of (n, S) bars from `start` on, by time, then symbol.

    Parameters
    ----------
    kept
        Positions among them, rising, of those to return; by default all.
    """
    total = int(np.count_nonzero(usable)) if kept is None else len(kept)
    rows = np.empty((total, 2), np.int32)
    seen = written = 0
    for span in chunks(len(usable), 8 * usable.shape[1]):
        found = np.argwhere(usable[span]).astype(np.int32)
        found[:, 0] += start + span.start
        first, seen = seen, seen + len(found)
        if kept is not None:
            here = slice(*np.searchsorted(kept, (first, seen)))
            found = found[kept[here] - first]
        rows[written : written + len(found)] = found
        written += len(found)
    return rows


def class_share(direction: np.ndarray, rows: np.ndarray) -> tuple[float, ...]:
    """Share of each class among rows (t, s)."""
    found = np.zeros(len(CLASSES), np.int64)
    for span in chunks(len(rows), 8):
        t, s = rows[span].T
        found += np.bincount(direction[t, s], minlength=len(CLASSES))
    return tuple((found / len(rows)).tolist())


def normalisation_of(features: np.ndarray, names: tuple[str, ...]) -> tuple[Normalisation, tuple[str, ...]]:
    """Mean and standard deviation of the complete bars of (S, T, F), merged piece by piece (Chan et al.).

    Returns
    -------
    normalisation, constant
        A feature that never changes has the standard deviation 1 and is named.
    """
    count, mean, squares = 0, np.zeros(len(names)), np.zeros(len(names))
    for symbol in features:
        for span in chunks(len(symbol), 8 * len(names)):
            bars = symbol[span]
            bars = bars[np.isfinite(bars).all(axis=1)].astype(np.float64)
            release_pages(symbol)
            if not len(bars):
                continue
            total = count + len(bars)
            shift = bars.mean(axis=0) - mean
            within = ((bars - bars.mean(axis=0)) ** 2).sum(axis=0)
            squares += within + shift**2 * (count * len(bars) / total)
            mean += shift * (len(bars) / total)
            count = total
    std = np.sqrt(squares / max(count, 1))
    constant = std <= 1e-12 * np.maximum(1.0, np.abs(mean))
    normalisation = Normalisation(mean=tuple(mean.tolist()), std=tuple(np.where(constant, 1.0, std).tolist()))
    return normalisation, tuple(name for name, same in zip(names, constant, strict=True) if same)
