"""The bundle of the newest forecaster: where exported files are gathered and from where they are served."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

from assets.errors import NotMadeYetError
from assets.model_state import forecaster_folder, training_set_folder
from assets.skill import kept_metrics
from training.data.training_set import TrainingSet
from training.export.bundle import bundle_folder, create_bundle
from training.export.conversion import ExportedModel
from training.export.reference_outputs import real_windows
from training.network.forecaster_files import META_FILE, WEIGHTS_FILE

_CALIBRATION_WINDOWS = 256


def newest_forecaster(home: Path) -> tuple[Path, np.ndarray]:
    """Return the folder of the newest forecaster and real windows (n, window, F) to check an export on.

    Raises
    ------
    NotMadeYetError
        When it has not been trained and judged to the end.
    """
    data, folder = _newest(home)
    return folder, real_windows(data)


def calibration_windows(home: Path) -> np.ndarray:
    """Return windows (n, window, F) of the newest training split, which quantised forms are fitted to."""
    return real_windows(TrainingSet.load(training_set_folder(home)), _CALIBRATION_WINDOWS, "train")


def newest_bundle(home: Path) -> Path | None:
    """Return the bundle of the newest forecaster; None before anything of it was exported.

    Raises
    ------
    NotMadeYetError
        When the newest forecaster has not been trained and judged to the end.
    """
    _, forecaster = _newest(home)
    folder = bundle_folder(home, forecaster, int(kept_metrics(forecaster)["created_at"]))
    return folder if folder.is_dir() else None


def _newest(home: Path) -> tuple[TrainingSet, Path]:
    data = TrainingSet.load(training_set_folder(home))
    folder = forecaster_folder(home, data.manifest.training_set_id)
    if not kept_metrics(folder):
        raise NotMadeYetError(
            "the newest training set has no trained forecaster yet",
            where=str(folder),
            remedy="materialise `forecaster` first: klinecast run train_and_export",
        )
    return data, folder


def add_to_bundle(home: Path, forecaster: Path, exported: ExportedModel) -> Path:
    """Put exported files into the forecaster's bundle, made at the first of them; returns the bundle's folder.

    The forecaster's own two files lie there too: it can be trained on from them, or again as it was.
    """
    metrics = kept_metrics(forecaster)
    return create_bundle(
        home,
        forecaster,
        files=[*exported.files, forecaster / META_FILE, forecaster / WEIGHTS_FILE],
        parity=exported.reports,
        metrics={name: value for name, value in metrics.items() if name != "created_at"},
        created_at=int(metrics["created_at"]),
        code_version=version("klinecast"),
    )
