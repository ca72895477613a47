"""Training a forecaster: repeatable, resumable after a kill, stopped when it no longer learns.

Loss = cross-entropy of the direction + pinball loss of the volatility-scaled quantiles. The order of the
windows depends on (seed, epoch) only, the learning rate on the step only, dropout on generators that are part
of the checkpoint: an epoch repeated after a kill is the same epoch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from training.backend import keras, limit_threads
from training.checkpoint import RunState, load_checkpoint, save_checkpoint
from training.config import ForecasterConfig
from training.dataset import evenly
from training.errors import DivergedError, ForecasterError, TrainingSetError
from training.forecaster_files import (
    META_FILE,
    WEIGHTS_FILE,
    EpochRecord,
    ForecasterMeta,
    file_sha256,
    load_meta,
    save_forecaster,
)
from training.model import build_model, training_heads
from training.progress import Progress, ProgressCallback
from training.training_set import TrainingSet, row_order

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.5
WARM_UP_SHARE = 0.1
FINAL_RATE_SHARE = 0.02


@dataclass(frozen=True)
class TrainedForecaster:
    """A finished training run; `load_forecaster(path)` rebuilds the model."""

    path: Path
    model_path: Path
    weights_path: Path
    config: ForecasterConfig
    history: tuple[EpochRecord, ...]
    feature_names: tuple[str, ...]
    meta: ForecasterMeta


class WindowBatches(keras.utils.PyDataset):
    """Batches of one split in a given order, for Keras; windows are gathered when they are asked for."""

    def __init__(self, training_set: TrainingSet, split: str, order: np.ndarray, batch_size: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self.training_set, self.split, self.order, self.batch_size = training_set, split, order, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, i: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        positions = self.order[i * self.batch_size : (i + 1) * self.batch_size]
        batch = self.training_set.batch(self.split, positions)
        targets = {
            "direction_logits": batch.outcomes.direction.astype(np.int32),
            "scaled_quantiles": batch.outcomes.scaled[:, None],
        }
        return batch.windows, targets


class _Reporter(keras.callbacks.Callback):
    """Passes on what happens inside an epoch, and keeps its speed."""

    def __init__(self, report: Callable[[int, float, float], None], batch_size: int) -> None:
        super().__init__()
        self._report, self._batch_size = report, batch_size

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._start = self._last = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = time.monotonic()
        if logs and now - self._last >= REPORT_SECONDS:
            self._last = now
            self._report(batch + 1, float(logs["loss"]), (batch + 1) * self._batch_size / (now - self._start))


def pinball_loss(quantiles: tuple[float, ...]) -> Callable[[Any, Any], Any]:
    """Pinball loss max(q * e, (q - 1) * e), e = y - prediction, of (n, 1) outcomes and (n, Q) predictions."""
    levels = np.asarray(quantiles, np.float32)

    def pinball(y_true: Any, y_pred: Any) -> Any:
        error = keras.ops.cast(y_true, "float32") - keras.ops.cast(y_pred, "float32")
        return keras.ops.mean(keras.ops.maximum(levels * error, (levels - 1) * error), axis=-1)

    return pinball


def train(
    training_set: TrainingSet,
    config: ForecasterConfig,
    workdir: Path,
    progress: ProgressCallback | None = None,
    *,
    threads: int | None = None,
) -> TrainedForecaster:
    """Train a forecaster, or go on with the one begun in `workdir`.

    On a CPU, with the same number of threads, the result is the same bit for bit, whether the run was killed
    in between or not. If the same run is already finished in `workdir`, it is returned as it is.

    Parameters
    ----------
    training_set
        Rows, windows and targets; its window, horizon and flat band must be those of `config`.
    config
        Architecture and training settings, including precision and XLA.
    workdir
        Folder for the checkpoint and the result, `forecaster.weights.h5` and `forecaster.json`.
    progress
        Called about twice a second and after each epoch.
    threads
        Compute threads, by default the cores of this process; only the first use in a process counts.

    Raises
    ------
    TrainingSetError
        The training set was built with other settings.
    DivergedError
        The loss became infinite or not a number.
    """
    _check_settings(training_set, config)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    environment = _environment(limit_threads(threads))
    run_id = _run_id(training_set, config, environment)
    found = load_checkpoint(workdir, run_id)
    if found and found[0].finished and (meta := _finished(workdir)) is not None:
        log.info("this training run is already finished in %s", workdir)
        return _result(workdir, meta)
    run = _Run(training_set, config, workdir, run_id, progress)
    if found:
        run.restore(*found)
        log.info("training goes on after epoch %d", len(run.state.history))
    run.to_the_end()
    meta = save_forecaster(run.model, _meta(training_set, config, run.state, environment), workdir)
    run.checkpoint(finished=True)
    return _result(workdir, meta)


class _Run:
    """The changing parts of one training run: network, optimizer, history, best weights."""

    def __init__(
        self,
        data: TrainingSet,
        config: ForecasterConfig,
        workdir: Path,
        run_id: str,
        progress: ProgressCallback | None,
    ) -> None:
        self.data, self.config, self.workdir, self.progress = data, config, workdir, progress
        self.state = RunState(run_id=run_id)
        self.best: list[np.ndarray] = []
        keras.utils.set_random_seed(config.seed)
        self.model = build_model(
            config,
            len(data.feature_names),
            data.manifest.normalisation,
            volatility_index=data.volatility_index,
            precision=config.precision,
        )
        self.network = training_heads(self.model)
        self.batch_size = min(config.batch_size, len(data.rows["train"]))
        self.steps = len(data.rows["train"]) // self.batch_size  # a smaller last batch would be compiled anew
        self.optimizer = _optimizer(config, self.steps)
        self.network.compile(
            optimizer=self.optimizer,
            loss={
                "direction_logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                "scaled_quantiles": pinball_loss(config.quantiles),
            },
            jit_compile=config.jit_compile,
            auto_scale_loss=False,
        )
        self.optimizer.build(self.network.trainable_variables)

    def restore(self, state: RunState, groups: dict[str, list[np.ndarray]]) -> None:
        """Put everything back to where the checkpoint was taken."""
        for name, variables in (("network", self.network.variables), ("optimizer", self.optimizer.variables)):
            for variable, value in zip(variables, groups[name], strict=True):
                variable.assign(value)
        self.best = groups.get("best", [])
        self.state = state

    def checkpoint(self, *, finished: bool = False) -> None:
        """Write where the run stands."""
        self.state = self.state.model_copy(update={"finished": finished})
        groups = {"network": self.network.variables, "optimizer": self.optimizer.variables, "best": self.best}
        save_checkpoint(self.workdir, self.state, groups)

    def to_the_end(self) -> None:
        """Train to the last epoch, or until `patience` epochs brought nothing; leave the best weights."""
        while len(self.state.history) < self.config.epochs:
            if len(self.state.history) - self.state.best_epoch >= self.config.patience:
                log.info("no better validation loss for %d epochs: stopped", self.config.patience)
                break
            self._epoch(len(self.state.history) + 1)
            self.checkpoint()
        self.network.set_weights(self.best)

    def _epoch(self, epoch: int) -> None:
        started = time.monotonic()
        order = row_order(len(self.data.rows["train"]), shuffle=True, seed=(self.config.seed, epoch))
        batches = WindowBatches(self.data, "train", order[: self.steps * self.batch_size], self.batch_size)
        reporter = _Reporter(
            lambda step, loss, speed: self._report(epoch, step, loss, speed), self.batch_size
        )
        fitted = self.network.fit(
            batches, initial_epoch=epoch - 1, epochs=epoch, shuffle=False, verbose=0, callbacks=[reporter]
        )
        trained = time.monotonic()
        losses = {name: float(values[-1]) for name, values in fitted.history.items()}
        kept = evenly(len(self.data.rows["validation"]), self.config.validation_windows, self.config.seed)
        judged = self.network.evaluate(
            WindowBatches(self.data, "validation", kept, 4 * self.batch_size), verbose=0, return_dict=True
        )
        record = EpochRecord(
            epoch=epoch,
            loss=losses["loss"],
            direction_loss=losses["direction_logits_loss"],
            quantile_loss=losses["scaled_quantiles_loss"],
            validation_loss=float(judged["loss"]),
            validation_direction_loss=float(judged["direction_logits_loss"]),
            validation_quantile_loss=float(judged["scaled_quantiles_loss"]),
            learning_rate=float(self.optimizer.learning_rate),
            windows_per_second=len(batches.order) / (trained - started),
            seconds=time.monotonic() - started,
        )
        self._take(record)

    def _take(self, record: EpochRecord) -> None:
        """Judge a finished epoch."""
        if not (math.isfinite(record.loss) and math.isfinite(record.validation_loss)):
            raise DivergedError(
                f"the loss is no longer finite (training {record.loss}, validation {record.validation_loss})",
                where=f"epoch {record.epoch} of {self.workdir}",
                remedy="lower learning_rate, or use precision float32; earlier epochs are in the checkpoint",
            )
        better = record.validation_loss < self.state.best_loss
        if better:
            self.best = [np.array(weight) for weight in self.network.get_weights()]
        self.state = self.state.model_copy(
            update={
                "history": (*self.state.history, record),
                "best_epoch": record.epoch if better else self.state.best_epoch,
            }
        )
        log.info("epoch %d: loss %.4f, validation %.4f", record.epoch, record.loss, record.validation_loss)
        self._report(record.epoch, self.steps, record.loss, record.windows_per_second, record.validation_loss)

    def _report(
        self, epoch: int, step: int, loss: float, speed: float, validation_loss: float | None = None
    ) -> None:
        if self.progress is not None:
            self.progress(Progress(epoch, self.config.epochs, step, self.steps, loss, speed, validation_loss))


def _optimizer(config: ForecasterConfig, steps_per_epoch: int) -> Any:
    """Adam with warm-up and cosine decay; the rate depends on the step count alone."""
    total = config.epochs * steps_per_epoch
    warm_up = max(1, int(WARM_UP_SHARE * total))
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=config.learning_rate * FINAL_RATE_SHARE,
        warmup_target=config.learning_rate,
        warmup_steps=warm_up,
        decay_steps=max(1, total - warm_up),
        alpha=FINAL_RATE_SHARE,
    )
    optimizer = keras.optimizers.Adam(rate)
    return (
        keras.optimizers.LossScaleOptimizer(optimizer) if config.precision == "mixed_float16" else optimizer
    )


def _check_settings(training_set: TrainingSet, config: ForecasterConfig) -> None:
    for name in ("window", "horizon", "flat_band"):
        built, wanted = getattr(training_set.manifest.config, name), getattr(config, name)
        if built != wanted:
            raise TrainingSetError(
                f"the training set was built with {name} {built}, the forecaster is to have {wanted}",
                where=str(training_set.path),
                remedy="build the training set again with the same settings",
            )


def _environment(threads: int) -> dict[str, str]:
    """What besides settings and data a result depends on, to the last bit."""
    backend = keras.backend.backend()
    libraries = {name: version(name) for name in ("keras", "numpy", backend)}
    return {**libraries, "backend": backend, "threads": str(threads)}


def _run_id(training_set: TrainingSet, config: ForecasterConfig, environment: dict[str, str]) -> str:
    parts = [config.model_dump(mode="json"), training_set.manifest.training_set_id, environment]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _finished(workdir: Path) -> ForecasterMeta | None:
    """The description of an intact result, else None."""
    try:
        meta = load_meta(workdir)
        intact = file_sha256(workdir / WEIGHTS_FILE) == meta.weights_sha256
    except (ForecasterError, OSError):
        return None
    return meta if intact else None


def _meta(
    training_set: TrainingSet, config: ForecasterConfig, state: RunState, environment: dict[str, str]
) -> ForecasterMeta:
    manifest = training_set.manifest
    return ForecasterMeta(
        config=config,
        feature_names=manifest.feature_names,
        volatility_feature=manifest.volatility_feature,
        normalisation=manifest.normalisation,
        interval=manifest.interval,
        symbols=manifest.symbols,
        spans=manifest.spans,
        training_set_id=manifest.training_set_id,
        run_id=state.run_id,
        history=state.history,
        best_epoch=state.best_epoch,
        environment=environment,
        weights_sha256="",
    )


def _result(workdir: Path, meta: ForecasterMeta) -> TrainedForecaster:
    return TrainedForecaster(
        path=workdir,
        model_path=workdir / META_FILE,
        weights_path=workdir / WEIGHTS_FILE,
        config=meta.config,
        history=meta.history,
        feature_names=meta.feature_names,
        meta=meta,
    )
