"""Beginning a training with the weights of another forecaster, instead of with random ones.

Weights remember what they were fitted to. So a forecaster may begin with those of another one only if its own test
split lies behind all that they, and those they go back to, have seen: splits are by share of the time span, and when
older history came to the store, the later set's test split moves back over bars that the earlier forecaster was fitted
to. The validation split nearly always overlaps with them; `unseen_validation` tells what of it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from market.intervals import interval_ms
from market.wording import utc
from training.config import ForecasterConfig
from training.data.training_set import TrainingSet
from training.errors import ForecasterError
from training.network.calibration import LEAST_ROWS
from training.network.forecaster_files import ForecasterMeta, InitialForecaster, load_forecaster, load_meta

SHAPING = ("window", "width", "heads", "blocks", "lstm_units", "ff", "hidden", "quantiles")
"""Settings that must be the same, since weights have their shapes, or their meaning, from them."""
LEAST_HORIZONS = 30
"""With fewer bars than so many horizons, validation rows that the weights have not seen are too few to go by."""


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """What a training begins with."""

    weights: list[np.ndarray]
    """In the order of the model's weights."""
    origin: InitialForecaster
    validation: np.ndarray | None = None
    """Positions of the validation rows to go by; None: all, since too few of them are unseen."""


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
        It cannot be loaded, has other features or other shapes, or has seen bars of the test split.
    """
    model, meta = load_forecaster(forecaster_dir)
    if differences := _differences(meta, data, config):
        raise ForecasterError(
            f"the weights of this forecaster do not fit the one to be trained: {'; '.join(differences)}",
            where=str(forecaster_dir),
            remedy="begin with a forecaster of the same features and shapes, or with none",
        )
    if seen := _seen_of_test(meta, data):
        raise ForecasterError(
            f"a training may not begin with these weights: {seen}",
            where=str(forecaster_dir),
            remedy="begin with random weights, or wait until the test split lies behind what they have seen",
        )
    validation = unseen_validation(meta, data)
    origin = InitialForecaster(
        weights_sha256=meta.weights_sha256,
        run_id=meta.run_id,
        training_set_id=meta.training_set_id,
        seen_until=meta.seen_until,
        unseen_validation_rows=0 if validation is None else len(validation),
    )
    return InitialWeights([np.asarray(weight) for weight in model.get_weights()], origin, validation)


def seen_of_test(forecaster_dir: Path, data: TrainingSet) -> str | None:
    """Say why a forecaster's weights have seen bars of a test split, or may have; None if they have not.

    Raises
    ------
    ForecasterError
        Its description cannot be read.
    """
    return _seen_of_test(load_meta(forecaster_dir), data)


def unseen_validation(meta: ForecasterMeta, data: TrainingSet) -> np.ndarray | None:
    """Find the validation rows that lie behind all that a forecaster has seen.

    Returns
    -------
    ndarray or None
        Their positions (n,) among the validation rows; None if they are fewer than `LEAST_ROWS`, or span fewer bars
        than `LEAST_HORIZONS` horizons.
    """
    at = np.flatnonzero(data.times("validation") > _known_until(meta, data))
    bars = len(np.unique(data.rows["validation"][at, 0]))
    enough = len(at) >= LEAST_ROWS and bars >= LEAST_HORIZONS * data.manifest.config.horizon
    return at if enough else None


def _known_until(meta: ForecasterMeta, data: TrainingSet) -> int:
    """Return the open time of the last bar whose rows a forecaster may have seen: an embargo behind its labels."""
    own = meta.config.horizon * interval_ms(meta.interval)
    return meta.seen_until + max(own, data.manifest.config.horizon * interval_ms(data.manifest.interval))


def _seen_of_test(meta: ForecasterMeta, data: TrainingSet) -> str | None:
    if meta.initial is not None and meta.initial.seen_until is None:
        return "they go back to those of another forecaster, and nobody wrote down what that one has seen"
    first = data.manifest.spans["test"].first_open_time
    if first > _known_until(meta, data):
        return None
    return (
        f"they, or those they go back to, were fitted or tuned on bars until {utc(meta.seen_until)},"
        f" and the test split begins at {utc(first)}"
    )


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
