"""Rows that none of several models has seen, and what came after them, each by the model's own definitions.

A model has seen the bars of its training and validation splits, labels included, and those of every model whose weights
it goes back to. With L the last of these bars over all models and h the longest horizon, a row t is unseen if it lies
more than h bars behind L (the embargo of training/data/splits.py). Windows may look back over L: what lies behind a row
is known to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.windows import complete_windows, window_view
from market.intervals import interval_ms
from training.data.set_arrays import Features, chunks
from training.data.splits import SEEN_SPLITS
from training.data.targets import (
    NO_TARGET,
    direction_of,
    forward_log_return,
    forward_realised_volatility,
    horizon_volatility,
)
from training.export.manifest import Manifest


@dataclass(frozen=True, eq=False)
class Bars:
    """Features and close prices of one grid of bars.

    Attributes
    ----------
    features
        Features of a complete time grid, read piece by piece.
    close
        (T, S) float64 of the same grid, NaN where a bar is missing.
    interval
        Interval of the bars.
    """

    features: Features
    close: NDArray[np.float64]
    interval: str

    @property
    def open_time(self) -> NDArray[np.int64]:
        """(T,) ms since epoch, UTC."""
        return self.features.open_time

    def lacking(self, names: Sequence[str]) -> list[str]:
        """Name the features that are not here."""
        return [name for name in dict.fromkeys(names) if name not in self.features.names]

    def feature(self, name: str) -> NDArray[np.float32]:
        """Return one feature of all bars, (T, S)."""
        F, T, S = self.features.shape
        at, found = self.features.names.index(name), np.empty((T, S), np.float32)
        for span in chunks(T, F * S):
            found[span] = self.features.read(span.start, span.stop)[at]
        return found


class Targets(NamedTuple):
    """What came after each bar, by one model's definitions; arrays of (T, S), see training/data/targets.py."""

    direction: NDArray[np.int8]
    scaled: NDArray[np.float64]
    volatility: NDArray[np.float64]
    """Volatility over the horizon known at t."""
    log_ratio: NDArray[np.float64]
    """log(realised volatility / `volatility`), NaN where nothing moved."""


def targets_of(bars: Bars, manifest: Manifest) -> Targets:
    """Work out what came after each bar as a model means it: its horizon, its volatility, its flat band."""
    scale = horizon_volatility(bars.feature(manifest.volatility_feature), manifest.horizon)
    scaled = forward_log_return(bars.close, manifest.horizon) / scale
    realised = forward_realised_volatility(bars.close, manifest.horizon)
    return Targets(direction_of(scaled, manifest.flat_band), scaled, scale, np.log(realised / scale))


def seen_until(manifest: Manifest) -> int:
    """Return the open time of the last bar that a model, or one before it, was fitted or tuned on, ms since epoch.

    Manifests of older versions do not tell of the models before it.
    """
    own = max(manifest.split_spans[name]["last_label_time"] for name in SEEN_SPLITS)
    return own if manifest.seen_until is None else max(own, manifest.seen_until)


@dataclass(frozen=True, eq=False)
class UnseenRows:
    """Rows that all models can be asked about.

    Attributes
    ----------
    rows
        (n, 2) int64 of (t, s), by time, then symbol.
    first_bar
        First bar that is unseen; labels of the bars before it, less a horizon, are known by then.
    stride
        Every how many bars rows were taken.
    """

    rows: NDArray[np.int64]
    first_bar: int
    stride: int

    @property
    def bars(self) -> int:
        """Distinct bars among the rows."""
        return len(np.unique(self.rows[:, 0]))


def unseen_rows(
    bars: Bars, manifests: Sequence[Manifest], targets: Sequence[Targets], *, max_rows: int
) -> UnseenRows:
    """Find the rows that no model has seen and every model can be asked about.

    Parameters
    ----------
    bars
        Where they are looked for; all features of the models are among them.
    manifests, targets
        The models and what came after each bar by their definitions.
    max_rows
        If there are more, only every second, third ... bar is taken, all symbols of it: neighbouring bars share
        most of their windows and labels, so that little is lost.
    """
    horizon = max(manifest.horizon for manifest in manifests)
    seen = max(map(seen_until, manifests)) + horizon * interval_ms(bars.interval)
    first = int(np.searchsorted(bars.open_time, seen, side="right"))
    usable = np.ones((max(0, len(bars.open_time) - first), len(bars.close[0])), bool)
    for manifest, target in zip(manifests, targets, strict=True):
        usable &= target.direction[first:] != NO_TARGET
        for start, values in _pieces(bars, manifest, first):
            whole = complete_windows(values, manifest.window)
            usable[start - first : start - first + len(whole)] &= whole
        usable[: max(0, manifest.window - 1 - first)] = False
    stride = max(1, -(-int(usable.sum()) // max_rows))
    rows = np.argwhere(usable[::stride]).astype(np.int64)
    rows[:, 0] = rows[:, 0] * stride + first
    return UnseenRows(rows, first, stride)


def window_batches(
    bars: Bars, manifest: Manifest, rows: NDArray[np.int64]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Give the windows of rows sorted by time, a stretch of bars at a time.

    Yields
    ------
    (slice, ndarray)
        Which of the rows, and their windows (n, window, F) float32.
    """
    if not len(rows):
        return
    for start, values in _pieces(bars, manifest, int(rows[0, 0])):
        view = window_view(values, manifest.window)
        low, high = np.searchsorted(rows[:, 0], [start, start + len(view)])
        if high > low:
            mine = rows[low:high]
            yield slice(int(low), int(high)), view[mine[:, 0] - start, mine[:, 1]]


def _pieces(bars: Bars, manifest: Manifest, first: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Copy the model's features in pieces (F, bars, S): each with the bar that its first window ends at."""
    at = [bars.features.names.index(name) for name in manifest.feature_names]
    F, T, S = bars.features.shape
    first = max(first, manifest.window - 1)
    for span in chunks(max(0, T - first), F * S):
        start, stop = first + span.start, first + span.stop
        yield start, bars.features.read(start - manifest.window + 1, stop)[at]
