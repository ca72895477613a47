"""What the Keras model answers on some real windows: the reference that exported files are held against.

It is computed once per forecaster and set of windows, where TensorFlow is loaded anyway, and stored beside
the weights as ``reference-<hash of the windows>.npz``; whoever compares later needs numpy only.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.errors import TrainingError
from training.export.inference_graph import OUTPUT_NAMES
from training.files import publish, scratch_folder
from training.network.forecaster_files import ForecasterMeta, load_meta

if TYPE_CHECKING:
    from training.data.training_set import TrainingSet

_KEPT = 4
DEFAULT_WINDOWS = 2_048
"""So many that the share of windows with the same class is known to about 0.2 %; of 512, chance may decide."""

_BATCH = 256


class WindowsError(TrainingError):
    """Windows that cannot be fed to the forecaster."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Windows and the answers of the Keras model in float32."""

    windows: np.ndarray
    """(n, window, F) float32, raw features."""
    direction: np.ndarray
    """(n, 3) float32, probabilities."""
    quantiles: np.ndarray
    """(n, Q) float32, log-return quantiles."""
    volatility: np.ndarray
    """(n, 1) float32, forecast of the realised volatility."""
    horizon_volatility: np.ndarray
    """(n,) float32, volatility known at t, over the horizon: the unit in which the network predicts."""
    weights_sha256: str
    """Weights file that gave the answers."""


def real_windows(training_set: TrainingSet, count: int = DEFAULT_WINDOWS, split: str = "test") -> np.ndarray:
    """Pick windows of a split, evenly spread over its time: (at most `count`, window, F) float32."""
    rows = training_set.rows[split]
    picked = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64))
    return np.ascontiguousarray(training_set.windows(np.asarray(rows[picked])), np.float32)


def checked_windows(windows: np.ndarray, meta: ForecasterMeta) -> np.ndarray:
    """Return the windows as C-contiguous float32, if the forecaster can be judged on them.

    Raises
    ------
    WindowsError
        Shape other than (n >= 1, window, F), or values that are not finite.
    """
    expected = (meta.config.window, len(meta.feature_names))
    windows = np.ascontiguousarray(windows, np.float32)
    if windows.ndim != 3 or windows.shape[1:] != expected or not len(windows):
        raise WindowsError(
            f"windows of shape {windows.shape}, expected (n, {expected[0]}, {expected[1]}) with n >= 1",
            where="windows to compare an exported model on",
            remedy="take them from the forecaster's own training set",
        )
    bad = np.flatnonzero(~np.isfinite(windows).all(axis=(1, 2)))
    if len(bad):
        raise WindowsError(
            f"{len(bad)} of {len(windows)} windows hold values that are not finite, the first is {bad[0]}",
            where="windows to compare an exported model on",
            remedy="take complete windows only (kernels.windows.complete_windows)",
        )
    return windows


def compute_reference(model: Any, meta: ForecasterMeta, windows: np.ndarray) -> Reference:
    """Ask the Keras model."""
    windows = checked_windows(windows, meta)
    parts = [model(windows[k : k + _BATCH], training=False) for k in range(0, len(windows), _BATCH)]
    said = {
        name: np.concatenate([np.asarray(part[name], np.float32) for part in parts]) for name in OUTPUT_NAMES
    }
    unit = windows[:, -1, meta.volatility_index] * np.float32(math.sqrt(meta.config.horizon))
    return Reference(windows=windows, **said, horizon_volatility=unit, weights_sha256=meta.weights_sha256)


def save_reference(reference: Reference, path: Path) -> None:
    """Write a reference file, whole or not at all."""
    with scratch_folder(path.parent, ".reference-") as folder:
        part = folder / path.name
        np.savez(
            part,
            windows=reference.windows,
            direction=reference.direction,
            quantiles=reference.quantiles,
            volatility=reference.volatility,
            horizon_volatility=reference.horizon_volatility,
            weights_sha256=np.array(reference.weights_sha256),
        )
        publish(part, path)


def load_reference(path: Path) -> Reference:
    """Read a reference file.

    Raises
    ------
    WindowsError
        The file is absent or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("windows", *OUTPUT_NAMES, "horizon_volatility")}
            return Reference(**arrays, weights_sha256=str(stored["weights_sha256"]))
    except Exception as error:  # a damaged archive shows as a zip, zlib, value, key or file error
        raise WindowsError(
            f"the reference outputs cannot be read: {error}",
            where=str(path),
            remedy="delete the file; it is computed again",
        ) from error


def reference_path(forecaster_dir: Path, windows: np.ndarray) -> Path:
    """Where the reference for these windows (C-contiguous float32) is stored."""
    return forecaster_dir / f"reference-{hashlib.sha256(windows.tobytes()).hexdigest()[:16]}.npz"


def store_reference(model: Any, meta: ForecasterMeta, windows: np.ndarray, forecaster_dir: Path) -> None:
    """Compute the reference and store it beside the weights, unless it is there; a few are kept."""
    windows = checked_windows(windows, meta)
    if stored_reference(forecaster_dir, windows) is not None:
        return
    save_reference(compute_reference(model, meta, windows), reference_path(forecaster_dir, windows))
    by_age = sorted(forecaster_dir.glob("reference-*.npz"), key=lambda path: path.stat().st_mtime_ns)
    for path in by_age[:-_KEPT]:
        path.unlink(missing_ok=True)


def stored_reference(forecaster_dir: Path, windows: np.ndarray) -> Reference | None:
    """Return the reference beside the weights, if it is for these weights and these windows."""
    path = reference_path(forecaster_dir, windows)
    if not path.is_file():
        return None
    meta = load_meta(forecaster_dir)
    try:
        reference = load_reference(path)
    except WindowsError:
        return None
    same = reference.weights_sha256 == meta.weights_sha256 and np.array_equal(reference.windows, windows)
    return reference if same else None
