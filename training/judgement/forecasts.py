"""What the forecaster and each baseline say in one fold; each is kept as soon as it is made.

A judgement that was interrupted goes on: what is kept is read, what is missing is made again from the same seeds.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.baselines.protocol import Predict, Rows, Said, said_of_forecast
from training.baselines.registry import baseline
from training.config import ForecasterConfig
from training.data.array_files import DamagedArraysError, read_arrays
from training.data.dataset import evenly
from training.data.folds import Fold
from training.data.training_set import TrainingSet
from training.evaluate import PREDICT_BATCH, Forecast, keras_predict_fn
from training.files import write_atomically
from training.judgement.settings import JudgementSettings
from training.progress import ProgressCallback

FORECASTER = "transformer_lstm"
"""The name of the forecaster among the judged."""
_FORMAT = 1


@dataclass(frozen=True)
class Made:
    """What one forecast says of the test rows of one fold.

    Attributes
    ----------
    said
        About the test rows, in their order.
    threshold
        |score| that the surest share of the validation rows exceeds.
    seconds
        How long it took to fit and to ask.
    """

    said: Said
    threshold: float
    seconds: float


def forecasts_of(
    fold: Fold,
    config: ForecasterConfig,
    settings: JudgementSettings,
    workdir: Path,
    *,
    begun: Callable[[str], None],
    progress: ProgressCallback | None = None,
) -> dict[str, Made]:
    """Fit the forecaster and all baselines to a fold and ask them about its test rows.

    Parameters
    ----------
    config
        Of the forecaster.
    workdir
        Folder of this fold's forecasts and of its training run.
    begun
        Told the name of what is made next.
    progress
        Told how the training of the forecaster goes.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in (FORECASTER, *settings.baselines):
        key = _key(fold.data, config, settings, name)
        file = workdir / f"{name}-{key}.npz"
        kept = _read(file)
        if kept is None:
            begun(name)
            kept = _make(name, fold.data, config, settings, workdir / f"forecaster-{key}", progress)
            _write(file, kept)
        found[name] = kept
    return found


def _make(
    name: str,
    data: TrainingSet,
    config: ForecasterConfig,
    settings: JudgementSettings,
    workdir: Path,
    progress: ProgressCallback | None,
) -> Made:
    started = time.monotonic()
    if name == FORECASTER:
        predict = _forecaster(data, config, workdir, progress)
    else:
        predict = baseline(name)(data, seed=settings.seed)
    said = predict(data.rows["test"])
    threshold = np.inf
    if said.score is not None:
        validation = data.rows["validation"]
        kept = validation[evenly(len(validation), config.validation_windows, config.seed)]
        score = predict(kept).score
        threshold = float(np.quantile(np.abs(score), 1 - settings.trade_share))  # type: ignore[arg-type]
    return Made(said, threshold, time.monotonic() - started)


def _forecaster(
    data: TrainingSet, config: ForecasterConfig, workdir: Path, progress: ProgressCallback | None
) -> Predict:
    from training.fitting.fit import train  # needs Keras, which reading kept forecasts does not
    from training.network.forecaster_files import load_forecaster

    trained = train(data, config, workdir, progress)
    model, _ = load_forecaster(trained.path)
    ask = keras_predict_fn(model)

    def predict(rows: Rows) -> Said:
        parts = [
            ask(data.windows(rows[at : at + PREDICT_BATCH])) for at in range(0, len(rows), PREDICT_BATCH)
        ]
        return said_of_forecast(Forecast(*(np.concatenate(part) for part in zip(*parts, strict=True))))

    return predict


def _key(data: TrainingSet, config: ForecasterConfig, settings: JudgementSettings, name: str) -> str:
    """What the forecasts depend on, as a short hash."""
    parts = [_FORMAT, data.manifest.training_set_id, config.model_dump(mode="json"), name]
    parts += [settings.seed, settings.trade_share]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _write(file: Path, made: Made) -> None:
    arrays = {name: values for name, values in made.said._asdict().items() if values is not None}
    content = io.BytesIO()
    np.savez(content, threshold=np.array(made.threshold), seconds=np.array(made.seconds), **arrays)
    write_atomically(file, content.getvalue())


def _read(file: Path) -> Made | None:
    """Read kept forecasts; None where there are none, or a file that is damaged."""
    try:
        kept = read_arrays(file)
        said = Said(**{name: kept[name] for name in Said._fields if name in kept})
        return Made(said, float(kept["threshold"]), float(kept["seconds"]))
    except (DamagedArraysError, KeyError):
        return None
