"""The bundle of the newest forecaster: where exported files are gathered and from where they are served."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

from assets.errors import NotMadeYetError
from assets.model_state import forecaster_folder, training_set_folder
from assets.skill import kept_metrics
from training.bundle import create_bundle
from training.conversion import ExportedModel
from training.reference_outputs import real_windows
from training.training_set import TrainingSet


def newest_forecaster(home: Path) -> tuple[Path, np.ndarray]:
    """Return the folder of the newest forecaster and real windows (n, window, F) to check an export on.

    Raises
    ------
    NotMadeYetError
        When it has not been trained and judged to the end.
    """
    data = TrainingSet.load(training_set_folder(home))
    folder = forecaster_folder(home, data.manifest.training_set_id)
    if not kept_metrics(folder):
        raise NotMadeYetError(
            "the newest training set has no trained forecaster yet",
            where=str(folder),
            remedy="materialise `forecaster` first: klinecast run train_and_export",
        )
    return folder, real_windows(data)


def add_to_bundle(home: Path, forecaster: Path, exported: ExportedModel) -> Path:
    """Put exported files into the forecaster's bundle, made at the first of them; returns the bundle's folder."""
    metrics = kept_metrics(forecaster)
    return create_bundle(
        home,
        forecaster,
        files=exported.files,
        parity=exported.reports,
        metrics={name: value for name, value in metrics.items() if name != "created_at"},
        created_at=int(metrics["created_at"]),
        code_version=version("klinecast"),
    )
