"""Training sets: a folder that is gathered from by index, so that memory does not grow with the history.

A folder holds, with T bars, S symbols, F features::

    features.npy    (S, T, F) float32   a window of one symbol is one contiguous piece
    open_time.npy   (T,)      int64     ms since epoch, UTC
    close.npy       (T, S)    float64
    log_return.npy  (T, S)    float32   targets, see training/data/targets.py; NaN where there is none
    realised_volatility.npy (T, S) float32   target; NaN where there is none or it is zero
    volatility.npy  (T, S)    float32   volatility over the horizon, the scale of the targets
    direction.npy   (T, S)    int8      0 down, 1 flat, 2 up, -1 none
    train.npy, validation.npy, test.npy (n, 2) int32   rows (t, s), by time, then symbol
    manifest.json                       names, settings, spans, counts, normalisation

Reading needs one batch of windows in memory besides the page cache. `training/data/dataset.py` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from kernels.joins import intervals_of
from kernels.windows import window_view
from training.config import ForecasterConfig, Normalisation
from training.data.array_files import DamagedArraysError, map_array
from training.data.splits import SPLITS, SplitSpan
from training.errors import TrainingSetError, first_fault

FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"
ARRAYS = (
    "features",
    "open_time",
    "close",
    "log_return",
    "realised_volatility",
    "volatility",
    "direction",
    *SPLITS,
)
_DTYPES = {
    "open_time": np.int64,
    "close": np.float64,
    "direction": np.int8,
    **dict.fromkeys(SPLITS, np.int32),
}
"""Of the arrays that are not float32."""


class TrainingSetManifest(BaseModel):
    """What a training set was made of and how.

    `counts` tells where every (bar, symbol) of the grid went; `class_share` is the share of down, flat and up
    per split; `training_set_id` is a hash of settings and content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    training_set_id: str
    interval: str
    symbols: tuple[str, ...]
    feature_names: tuple[str, ...]
    volatility_feature: str
    config: ForecasterConfig
    normalisation: Normalisation
    constant_features: tuple[str, ...]
    spans: dict[str, SplitSpan]
    counts: dict[str, int]
    class_share: dict[str, tuple[float, ...]]

    @property
    def intervals(self) -> tuple[str, ...]:
        """Intervals of the features: that of the bars first, then the longer ones that are joined to it."""
        return intervals_of(self.feature_names, self.interval)


class Outcomes(NamedTuple):
    """What happened after the windows of some rows; arrays of (n,)."""

    direction: np.ndarray
    """int8 class."""
    log_return: np.ndarray
    """float32 over the horizon."""
    volatility: np.ndarray
    """float32 over the horizon, known at t."""
    realised_volatility: np.ndarray
    """float32 over the horizon, as it came; NaN where it is zero."""

    @property
    def scaled(self) -> np.ndarray:
        """Returns in units of volatility, float32."""
        return self.log_return / self.volatility

    @property
    def log_volatility_ratio(self) -> np.ndarray:
        """log(realised volatility / volatility known at t), float32; NaN where the former is zero."""
        return np.log(self.realised_volatility / self.volatility)


class Batch(NamedTuple):
    """Some rows with their windows."""

    windows: np.ndarray
    """(n, window, F) float32."""
    outcomes: Outcomes
    rows: np.ndarray
    """(n, 2) int32 of (t, s)."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """An open training set; arrays are read-only maps of the files, in the layout of the module text."""

    path: Path
    manifest: TrainingSetManifest
    features: np.ndarray
    open_time: np.ndarray
    close: np.ndarray
    log_return: np.ndarray
    realised_volatility: np.ndarray
    volatility: np.ndarray
    direction: np.ndarray
    rows: dict[str, np.ndarray]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open a training set folder.

        Raises
        ------
        TrainingSetError
            A file is absent, damaged, or does not fit the others; or another set took the folder's place just now.
        """
        path = Path(path)
        manifest = _read_manifest(path / MANIFEST_FILE)
        arrays = {name: _map(path / f"{name}.npy") for name in ARRAYS}
        for name, array in arrays.items():
            if array.dtype != (expected_type := np.dtype(_DTYPES.get(name, np.float32))):
                raise _damaged(path / f"{name}.npy", f"{array.dtype}, expected {expected_type}")
        if _read_manifest(path / MANIFEST_FILE) != manifest:  # arrays of the one, description of the other
            raise TrainingSetError(
                "another training set took the place of this one while it was opened",
                where=str(path),
                remedy="start again",
            )
        rows = {split: arrays.pop(split) for split in SPLITS}
        T, S, F = len(arrays["open_time"]), len(manifest.symbols), len(manifest.feature_names)
        for name, array in arrays.items():
            expected = {"features": (S, T, F), "open_time": (T,)}.get(name, (T, S))
            if array.shape != expected:
                raise _damaged(path / f"{name}.npy", f"shape {array.shape}, expected {expected}")
        for split, index in rows.items():
            if index.shape != (manifest.spans[split].rows, 2):
                raise _damaged(
                    path / f"{split}.npy", f"{len(index)} rows, expected {manifest.spans[split].rows}"
                )
            if index[:, 0].min() < manifest.config.window - 1 or (index.max(axis=0) >= (T, S)).any():
                raise _damaged(path / f"{split}.npy", "rows outside of the grid")
        return cls(path=path, manifest=manifest, rows=rows, **arrays)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the windows' last axis."""
        return self.manifest.feature_names

    @property
    def volatility_index(self) -> int:
        """Position of the feature that scales the targets."""
        return self.manifest.feature_names.index(self.manifest.volatility_feature)

    def windows(self, rows: np.ndarray) -> np.ndarray:
        """Copy the windows of rows (n, 2) into an array (n, window, F) float32."""
        window = self.manifest.config.window
        view = window_view(self.features.transpose(2, 1, 0), window)
        return view[rows[:, 0] - (window - 1), rows[:, 1]]

    def outcomes(self, rows: np.ndarray) -> Outcomes:
        """What happened after the windows of rows (n, 2)."""
        t, s = rows[:, 0], rows[:, 1]
        return Outcomes(
            self.direction[t, s],
            self.log_return[t, s],
            self.volatility[t, s],
            self.realised_volatility[t, s],
        )

    def times(self, split: str) -> np.ndarray:
        """Open time (n,) int64 of the last bar of each window of a split."""
        return self.open_time[self.rows[split][:, 0]]

    def batches(
        self, split: str, batch_size: int, shuffle: bool = False, seed: int | Sequence[int] = 0
    ) -> Iterator[Batch]:
        """Gather the windows of a split, batch by batch; the last batch may be smaller.

        The order depends on `seed` alone (a pair such as (seed, epoch) does); without `shuffle` it is that of
        time.
        """
        order = row_order(len(self.rows[split]), shuffle=shuffle, seed=seed)
        for start in range(0, len(order), batch_size):
            yield self.batch(split, order[start : start + batch_size])

    def batch(self, split: str, positions: np.ndarray) -> Batch:
        """Gather the rows at these positions of a split."""
        rows = np.asarray(self.rows[split][positions])
        return Batch(self.windows(rows), self.outcomes(rows), rows)


def row_order(n: int, *, shuffle: bool, seed: int | Sequence[int]) -> np.ndarray:
    """Order in which `n` rows are visited."""
    return np.random.default_rng(seed).permutation(n) if shuffle else np.arange(n)


def _damaged(path: Path, problem: str) -> TrainingSetError:
    return TrainingSetError(
        f"the training set is damaged: {problem}",
        where=str(path),
        remedy="materialise `training_set` again: klinecast run train_and_export",
    )


def _read_manifest(path: Path) -> TrainingSetManifest:
    try:
        content = path.read_bytes()
        _check_format(content, path)
        manifest = TrainingSetManifest.model_validate_json(content)
    except FileNotFoundError as error:
        raise TrainingSetError(
            "there is no training set here",
            where=str(path),
            remedy="materialise `training_set` first: klinecast run train_and_export",
        ) from error
    except ValidationError as error:
        raise _damaged(path, first_fault(error)) from error
    return manifest


def _check_format(content: bytes, path: Path) -> None:
    """Refuse another format before its fields are looked at: they may be others."""
    try:
        found = json.loads(content)["format_version"]
    except (ValueError, KeyError, TypeError):
        return  # damaged, which is told when the fields are read
    if found != FORMAT_VERSION:
        raise TrainingSetError(
            f"the training set has format_version {found}, this code reads {FORMAT_VERSION}",
            where=str(path),
            remedy="materialise `training_set` again: it is built anew from the features",
        )


def _map(path: Path) -> np.ndarray:
    try:
        return map_array(path)
    except DamagedArraysError as error:
        raise _damaged(path, str(error)) from error
