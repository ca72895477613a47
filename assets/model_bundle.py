"""The bundle of the newest forecaster: where exported files are gathered and from where they are served."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from assets.errors import NotMadeYetError
from assets.forecaster_runs import newest_run
from assets.kept_metrics import kept_metrics
from assets.model_state import training_set_folder
from training.data.training_set import TrainingSet
from training.export.bundle import BundleError, bundle_folder, create_bundle, is_published, read_manifest
from training.export.conversion import ExportedModel
from training.export.reference_outputs import real_windows
from training.files import file_sha256
from training.lifecycle.trials import Clock
from training.lifecycle.twins import find_published
from training.network.forecaster_files import META_FILE, WEIGHTS_FILE

_CALIBRATION_WINDOWS = 256


def newest_forecaster(home: Path) -> tuple[Path, np.ndarray]:
    """Return the folder of the newest forecaster and real windows (n, window, F) to check an export on.

    Raises
    ------
    NotMadeYetError
        When it has not been trained and judged to the end.
    """
    data, folder = judged_forecaster(home)
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
    _, forecaster = judged_forecaster(home)
    folder = version_folder(home, forecaster)
    return folder if folder.is_dir() else None


def judged_forecaster(home: Path) -> tuple[TrainingSet, Path]:
    """Return the newest training set, and the folder of the forecaster that was trained on it and judged.

    Raises
    ------
    NotMadeYetError
        When it has not been trained and judged to the end.
    """
    data = TrainingSet.load(training_set_folder(home))
    folder = newest_run(home, data)
    if folder is None or not kept_metrics(folder):
        raise NotMadeYetError(
            "the newest training set has no trained forecaster of its settings yet",
            where=str(folder or data.path),
            remedy="materialise `forecaster` first: klinecast run train_and_export",
        )
    return data, folder


def version_folder(home: Path, forecaster: Path) -> Path:
    """Return where the version of a judged forecaster lies, or would lie: one that was published stays that one."""
    files, created_at = _as_published(home, forecaster)
    return bundle_folder(home, files, created_at)


def _as_published(home: Path, forecaster: Path) -> tuple[Path, int]:
    """Return a folder with the forecaster's two files, and when it was made: those of its version if it has one.

    Trained anew it is the same forecaster, but for the seconds that its description tells.
    """
    former = find_published(home, forecaster)
    if former is not None:
        return former, read_manifest(former).created_at
    return forecaster, int(kept_metrics(forecaster)["created_at"])


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
    bundle = version_folder(home, forecaster)
    try:
        manifest = read_manifest(bundle)
    except BundleError:
        return None
    reports = {name: manifest.parity[name] for name in wanted if name in manifest.parity}
    good = [name for name, report in reports.items() if report.passed]
    if len(reports) < len(wanted) or manifest.code_version != version("klinecast"):
        return None
    if not all(is_published(bundle, manifest, name) for name in (*good, META_FILE, WEIGHTS_FILE)):
        return None
    return bundle, ExportedModel(tuple(bundle / name for name in good), reports)


def add_to_bundle(home: Path, forecaster: Path, exported: ExportedModel, *, now: Clock) -> Path:
    """Put exported files into the forecaster's bundle, made at the first of them; returns the bundle's folder.

    The forecaster's own two files lie there too: it can be trained on from them, or again as it was. What is published
    never changes: where an export of other code gives other files, they are a version of their own, made `now`.
    """
    files, created_at = _as_published(home, forecaster)
    if _would_change(bundle_folder(home, files, created_at), exported):
        created_at = now()
    metrics = kept_metrics(forecaster)
    return create_bundle(
        home,
        files,
        files=[*exported.files, files / META_FILE, files / WEIGHTS_FILE],
        parity=exported.reports,
        metrics={name: value for name, value in metrics.items() if name != "created_at"},
        created_at=created_at,
        code_version=version("klinecast"),
    )


def _would_change(bundle: Path, exported: ExportedModel) -> bool:
    try:
        published = read_manifest(bundle).files
    except BundleError:
        return False
    return any(
        file.name in published and published[file.name].sha256 != file_sha256(file) for file in exported.files
    )
