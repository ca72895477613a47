"""Training sets with some of the features of another one: the same rows, targets and splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.config import Normalisation
from training.data.set_arrays import chunks
from training.data.targets import VOLATILITY_PREFIX
from training.data.training_set import ARRAYS, MANIFEST_FILE, TrainingSet
from training.errors import TrainingSetError
from training.files import new_folder
from training.lifecycle.model_card import feature_group


def feature_groups(names: Sequence[str]) -> tuple[str, ...]:
    """Return the groups that features belong to, in their order."""
    return tuple(dict.fromkeys(feature_group(name) for name in names))


def without_groups(
    names: Sequence[str], groups: Sequence[str], *, keep: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the features that are in none of the groups, or in `keep`."""
    return tuple(name for name in names if name in keep or feature_group(name) not in groups)


def scales(names: Sequence[str]) -> tuple[str, ...]:
    """Return the features that may scale the targets; one of them always has to stay."""
    return tuple(name for name in names if name.startswith(VOLATILITY_PREFIX))


def choose_features(data: TrainingSet, names: Sequence[str], out: Path) -> TrainingSet:
    """Write a training set of some features of `data`, and open it.

    Rows, targets and splits are those of `data`, so that losses on it can be compared; windows that only a feature
    left out would have made incomplete are not taken in. Everything is copied from the open arrays, not from the files
    at `data.path`: another process may have put a newer training set there.

    Parameters
    ----------
    data
        A training set.
    names
        Features to keep, in their order; the one that scales the targets must be among them.
    out
        Folder to write; a former one is replaced.

    Raises
    ------
    TrainingSetError
        A name is not among the features, or the scale of the targets is not among the names.
    """
    manifest = data.manifest
    unknown = [name for name in names if name not in manifest.feature_names]
    if unknown or manifest.volatility_feature not in names:
        problem = (
            f"no feature {unknown[0]}" if unknown else f"{manifest.volatility_feature} scales the targets"
        )
        raise TrainingSetError(
            f"these features cannot be chosen: {problem}",
            where=str(data.path),
            remedy=f"choose among {', '.join(manifest.feature_names)}, {manifest.volatility_feature} included",
        )
    at = [manifest.feature_names.index(name) for name in names]
    with new_folder(Path(out)) as folder:
        _copy(data.features, at, folder / "features.npy")
        for array in ARRAYS:
            if array != "features":
                values = data.rows[array] if array in data.rows else getattr(data, array)
                np.save(folder / f"{array}.npy", values, allow_pickle=False)
        norm = manifest.normalisation
        parts = [norm.mean, norm.std]
        mean, std = (tuple(part[i] for i in at) for part in parts)
        chosen = manifest.model_copy(
            update={
                "training_set_id": _chosen_id(manifest.training_set_id, names),
                "feature_names": tuple(names),
                "normalisation": Normalisation(mean=mean, std=std, clip=norm.clip),
                "constant_features": tuple(name for name in manifest.constant_features if name in names),
            }
        )
        (folder / MANIFEST_FILE).write_text(chosen.model_dump_json(indent=1))
    return TrainingSet.load(Path(out))


def _copy(features: np.ndarray, at: Sequence[int], path: Path) -> None:
    """Copy some features of (S, T, F) into a file map, a stretch of bars at a time."""
    S, T, _ = features.shape
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(S, T, len(at)))
    for span in chunks(T, S * features.shape[2]):
        out[:, span] = features[:, span][:, :, at]
    out.flush()


def _chosen_id(training_set_id: str, names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([training_set_id, *names]).encode()).hexdigest()[:16]
