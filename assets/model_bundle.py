"""The bundle of the newest forecaster: where exported files are gathered and from where they are served."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from assets.errors import NotMadeYetError
from assets.kept_metrics import kept_metrics
from assets.model_state import forecaster_folder, training_set_folder
from training.data.training_set import TrainingSet
from training.export.bundle import BundleError, bundle_folder, create_bundle, read_manifest
from training.export.conversion import ExportedModel
from training.export.manifest import Manifest
from training.export.reference_outputs import real_windows
from training.files import file_sha256
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


def exported_already(
    home: Path, forecaster: Path, wanted: Sequence[str]
) -> tuple[Path, ExportedModel] | None:
    """Return the bundle, and what the same version of klinecast exported to it, if all of that is there and whole.

    Parameters
    ----------
    home
        The platform's home folder.
    forecaster
        Folder of the forecaster.
    wanted
        Names of the files that an export makes. One that was left out because it did not answer well enough is there
        by its report.

    Returns
    -------
    (Path, ExportedModel) or None
        None where a file or report is missing, or a file is not the published one: then the export is made again.
    """
    bundle = bundle_folder(home, forecaster, int(kept_metrics(forecaster)["created_at"]))
    try:
        manifest = read_manifest(bundle)
    except BundleError:
        return None
    reports = {name: manifest.parity[name] for name in wanted if name in manifest.parity}
    good = [name for name, report in reports.items() if report.passed]
    if len(reports) < len(wanted) or manifest.code_version != version("klinecast"):
        return None
    if not all(_is_published(bundle, manifest, name) for name in (*good, META_FILE, WEIGHTS_FILE)):
        return None
    return bundle, ExportedModel(tuple(bundle / name for name in good), reports)


def _is_published(bundle: Path, manifest: Manifest, name: str) -> bool:
    entry, file = manifest.files.get(name), bundle / name
    return entry is not None and file.is_file() and file_sha256(file) == entry.sha256


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
