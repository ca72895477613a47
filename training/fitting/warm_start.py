"""Beginning a training with the weights of another forecaster, instead of with random ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.config import ForecasterConfig
from training.data.training_set import TrainingSet
from training.errors import ForecasterError
from training.network.forecaster_files import ForecasterMeta, InitialForecaster, load_forecaster

SHAPING = ("window", "width", "heads", "blocks", "lstm_units", "ff", "hidden", "quantiles")
"""Settings that must be the same, since weights have their shapes, or their meaning, from them."""


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """What a training begins with."""

    weights: list[np.ndarray]
    """In the order of the model's weights."""
    origin: InitialForecaster


def initial_weights(forecaster_dir: Path, data: TrainingSet, config: ForecasterConfig) -> InitialWeights:
    """Load the weights to begin a training with.

    The statistics of the training span are those of the new training set; the calibration is fitted anew.

    Parameters
    ----------
    forecaster_dir
        Folder of a trained forecaster.
    data, config
        What is to be trained on, and how.

    Raises
    ------
    ForecasterError
        It cannot be loaded, or has other features or other shapes.
    """
    model, meta = load_forecaster(forecaster_dir)
    if differences := _differences(meta, data, config):
        raise ForecasterError(
            f"the weights of this forecaster do not fit the one to be trained: {'; '.join(differences)}",
            where=str(forecaster_dir),
            remedy="begin with a forecaster of the same features and shapes, or with none",
        )
    origin = InitialForecaster(
        weights_sha256=meta.weights_sha256, run_id=meta.run_id, training_set_id=meta.training_set_id
    )
    return InitialWeights([np.asarray(weight) for weight in model.get_weights()], origin)


def _differences(meta: ForecasterMeta, data: TrainingSet, config: ForecasterConfig) -> list[str]:
    found = [
        f"{name} {getattr(meta.config, name)}, not {getattr(config, name)}"
        for name in SHAPING
        if getattr(meta.config, name) != getattr(config, name)
    ]
    if meta.feature_names != data.feature_names:
        other = [name for name in meta.feature_names if name not in data.feature_names]
        lacking = [name for name in data.feature_names if name not in meta.feature_names]
        told = [f"without {', '.join(lacking)}"] if lacking else []
        told += [f"with {', '.join(other)}"] if other else []
        found.append(f"features {' and '.join(told) or 'in another order'}")
    return found
