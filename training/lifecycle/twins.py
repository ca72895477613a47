"""Whether a forecaster is published already: trained again, it is the same one but for how long that took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from training.errors import ForecasterError
from training.export.bundle import MODELS_FOLDER, BundleError, is_published, list_bundles, read_manifest
from training.network.forecaster_files import META_FILE, WEIGHTS_FILE, ForecasterMeta, load_meta

_OF_THE_TRAINING = {"history", "best_epoch", "environment", "run_id", "weights_sha256"}
"""What a description tells of a training and not of the forecaster; the weights are compared by themselves."""


def find_published(home: Path, forecaster_dir: Path) -> Path | None:
    """Return the bundle of the newest version of this very forecaster, whenever and wherever it was trained.

    Parameters
    ----------
    home
        The platform's home folder.
    forecaster_dir
        Folder of the trained forecaster.

    Returns
    -------
    Path or None
        A bundle in which both files of the forecaster are whole; None where there is none.

    Raises
    ------
    ForecasterError
        The description of the forecaster cannot be read.
    """
    wanted = _description(load_meta(forecaster_dir))
    for version in reversed(list_bundles(home)):
        bundle = Path(home) / MODELS_FOLDER / version
        try:
            if _description(load_meta(bundle)) != wanted:
                continue
            manifest = read_manifest(bundle)
        except (BundleError, ForecasterError):  # damaged, or of a version that kept no description
            continue
        whole = all(is_published(bundle, manifest, name) for name in (META_FILE, WEIGHTS_FILE))
        if whole and _same_weights(bundle / WEIGHTS_FILE, Path(forecaster_dir) / WEIGHTS_FILE):
            return bundle
    return None


def _description(meta: ForecasterMeta) -> dict[str, Any]:
    return meta.model_dump(exclude=_OF_THE_TRAINING)


def _same_weights(one: Path, other: Path) -> bool:
    """Compare bit for bit, array by array: the files also name layers, by how many a process had made before."""
    first, second = _weights(one), _weights(other)
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


def _weights(file: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item)

    with h5py.File(file, "r") as stored:
        stored.visititems(take)
    return found
