"""The files of a trained forecaster, `forecaster.weights.h5` and `forecaster.json`, which rebuild it.

No pickle: weights are HDF5 arrays, everything else is JSON. TensorFlow is imported only when a model is
loaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from training.config import Calibration, ForecasterConfig, Normalisation
from training.data.splits import SEEN_SPLITS, SplitSpan
from training.errors import ForecasterError, first_fault
from training.files import file_sha256, publish, write_atomically

WEIGHTS_FILE = "forecaster.weights.h5"
META_FILE = "forecaster.json"
FORMAT_VERSION = 2


class EpochRecord(BaseModel):
    """One epoch: mean losses, learning rate at its end, windows per second."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    loss: float
    direction_loss: float
    quantile_loss: float
    volatility_loss: float
    validation_loss: float
    validation_direction_loss: float
    validation_quantile_loss: float
    validation_volatility_loss: float
    learning_rate: float
    windows_per_second: float
    seconds: float
    input_wait_share: float | None = None


class InitialForecaster(BaseModel):
    """The forecaster whose weights a training began with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights_sha256: str
    run_id: str
    training_set_id: str
    seen_until: int | None = None
    """Open time of the last bar that it or a forecaster before it was fitted or tuned on; None where nobody wrote it
    down."""
    unseen_validation_rows: int = 0
    """Validation rows behind `seen_until`, by which alone the training was stopped and calibrated; 0: there were too
    few of them, and rows that the weights had seen were taken, too."""


class ForecasterMeta(BaseModel):
    """Everything besides the weights: what the forecaster is, was fed and how it was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    config: ForecasterConfig
    feature_names: tuple[str, ...]
    volatility_feature: str
    normalisation: Normalisation
    interval: str
    symbols: tuple[str, ...]
    spans: dict[str, SplitSpan]
    training_set_id: str
    run_id: str
    history: tuple[EpochRecord, ...]
    best_epoch: int
    environment: dict[str, str]
    weights_sha256: str
    calibration: Calibration = Calibration()
    initial: InitialForecaster | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.format_version != FORMAT_VERSION:
            raise ValueError(f"format_version {self.format_version}, this code reads {FORMAT_VERSION}")
        if len(self.normalisation.mean) != len(self.feature_names):
            raise ValueError(f"{len(self.feature_names)} features, {len(self.normalisation.mean)} means")
        if self.volatility_feature not in self.feature_names:
            raise ValueError(f"volatility feature {self.volatility_feature} is not among the features")
        return self

    @property
    def volatility_index(self) -> int:
        """Position of the volatility feature in a window."""
        return self.feature_names.index(self.volatility_feature)

    @property
    def seen_until(self) -> int:
        """Open time of the last bar that it, or one whose weights it goes back to, was fitted or tuned on, ms UTC."""
        own = max(self.spans[name].last_label_time for name in SEEN_SPLITS)
        before = self.initial.seen_until if self.initial is not None else None
        return own if before is None else max(own, before)


def save_forecaster(model: Any, meta: ForecasterMeta, workdir: Path) -> ForecasterMeta:
    """Write weights, then `forecaster.json` with their hash; the two appear in this order, each whole.

    Returns
    -------
    ForecasterMeta
        `meta` with the hash of the weights file.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    part = workdir / f".{os.getpid()}.part.weights.h5"  # Keras insists on the ending
    try:
        model.save_weights(part)
        meta = meta.model_copy(update={"weights_sha256": file_sha256(part)})
        publish(part, workdir / WEIGHTS_FILE)
    finally:
        part.unlink(missing_ok=True)
    write_atomically(workdir / META_FILE, meta.model_dump_json(indent=1).encode())
    return meta


def load_meta(workdir: Path) -> ForecasterMeta:
    """Read and check `forecaster.json`; TensorFlow is not needed.

    Raises
    ------
    ForecasterError
        The file is absent, unreadable, or of another format.
    """
    path = Path(workdir) / META_FILE
    try:
        return ForecasterMeta.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ForecasterError(
            "there is no trained forecaster here",
            where=str(path),
            remedy="materialise `forecaster` first: klinecast run train_and_export",
        ) from error
    except ValidationError as error:
        raise ForecasterError(
            f"the description of the forecaster cannot be used: {first_fault(error)}",
            where=str(path),
            remedy="train the forecaster again with this version",
        ) from error


def load_forecaster(workdir: Path) -> tuple[Any, ForecasterMeta]:
    """Rebuild a trained forecaster in float32.

    Returns
    -------
    (keras.Model, ForecasterMeta)
        The model, calibrated if it was, as :func:`training.network.model.build_model` describes it, and what
        belongs to it.

    Raises
    ------
    ForecasterError
        A file is absent or damaged, or weights and description do not belong together.
    """
    workdir = Path(workdir)
    meta = load_meta(workdir)
    weights = workdir / WEIGHTS_FILE
    if not weights.is_file():
        raise ForecasterError(
            "the weights are absent", where=str(weights), remedy="train the forecaster again"
        )
    found = file_sha256(weights)
    if found != meta.weights_sha256:
        raise ForecasterError(
            f"these are not the weights described: SHA-256 {meta.weights_sha256} expected, {found} found",
            where=str(weights),
            remedy="restore the file, or train the forecaster again",
        )
    from training.network.model import build_model

    model = build_model(
        meta.config,
        len(meta.feature_names),
        meta.normalisation,
        volatility_index=meta.volatility_index,
        calibration=meta.calibration,
    )
    model.load_weights(weights)
    return model, meta
