"""One training run: epochs, checkpoints, the best weights, and when to stop.

The order of the windows depends on (seed, epoch) only, the learning rate on the step only, dropout on
generators that are part of the checkpoint: an epoch repeated after a kill is the same epoch.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from training.config import Calibration, ForecasterConfig
from training.data.dataset import evenly
from training.data.training_set import TrainingSet, row_order
from training.errors import DivergedError
from training.fitting.batches import TargetFunction, WaitForInput, WindowBatches, last_bar_targets
from training.fitting.checkpoint import RunState, save_checkpoint
from training.network.backend import keras
from training.network.calibration import fit_calibration
from training.network.forecaster_files import EpochRecord
from training.network.losses import losses
from training.network.model import build_model, training_heads
from training.network.optimizer import make_optimizer
from training.network.precision import decided_precision
from training.network.sequences import target_functions
from training.progress import Progress, ProgressCallback

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.5


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


class TrainingRun:
    """The changing parts of one training run: network, optimizer, history, best weights."""

    def __init__(
        self,
        data: TrainingSet,
        config: ForecasterConfig,
        workdir: Path,
        run_id: str,
        progress: ProgressCallback | None,
        initial: Sequence[np.ndarray] | None = None,
        validation: np.ndarray | None = None,
    ) -> None:
        self.data, self.config, self.workdir, self.progress = data, config, workdir, progress
        self.validation = np.arange(len(data.rows["validation"])) if validation is None else validation
        self.state = RunState(run_id=run_id)
        self.best: list[np.ndarray] = []
        keras.utils.set_random_seed(config.seed)
        self.model = build_model(
            config,
            len(data.feature_names),
            data.manifest.normalisation,
            volatility_index=data.volatility_index,
            precision=decided_precision(config),
        )
        if initial is not None:
            self.model.set_weights(initial)
        self.network = training_heads(self.model)
        self.batch_size = min(config.batch_size, len(data.rows["train"]))
        self.steps = len(data.rows["train"]) // self.batch_size  # a smaller last batch would be compiled anew
        self.optimizer = make_optimizer(config, self.steps)
        self.network.compile(
            optimizer=self.optimizer,
            loss=losses(config),
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
        learned, asked = target_functions(self.config)
        order = order[: self.steps * self.batch_size]
        batches = WindowBatches(self.data, "train", order, self.batch_size, learned)
        reporter = _Reporter(
            lambda step, loss, speed: self._report(epoch, step, loss, speed), self.batch_size
        )
        with batches:
            fitted = self.network.fit(
                batches.as_input(),
                initial_epoch=epoch - 1,
                epochs=epoch,
                shuffle=False,
                verbose=0,
                callbacks=[reporter, WaitForInput(batches)],
            )
        trained = time.monotonic()
        means = {name: float(values[-1]) for name, values in fitted.history.items()}
        with self._validation(asked) as unseen:
            judged = self.network.evaluate(unseen.as_input(), verbose=0, return_dict=True)
        record = EpochRecord(
            epoch=epoch,
            loss=means["loss"],
            direction_loss=means["direction_logits_loss"],
            quantile_loss=means["scaled_quantiles_loss"],
            volatility_loss=means["log_volatility_ratio_loss"],
            validation_loss=float(judged["loss"]),
            validation_direction_loss=float(judged["direction_logits_loss"]),
            validation_quantile_loss=float(judged["scaled_quantiles_loss"]),
            validation_volatility_loss=float(judged["log_volatility_ratio_loss"]),
            learning_rate=float(self.optimizer.learning_rate),
            windows_per_second=len(batches.order) / (trained - started),
            seconds=time.monotonic() - started,
            input_wait_share=batches.waited / (trained - started),
        )
        self._take(record)

    def _validation(self, targets: TargetFunction = last_bar_targets) -> WindowBatches:
        among = self.validation
        kept = among[evenly(len(among), self.config.validation_windows, self.config.seed)]
        return WindowBatches(self.data, "validation", kept, 4 * self.batch_size, targets)

    def calibration(self) -> Calibration:
        """Fit the corrections of the outputs to the validation windows; after `to_the_end`.

        Raises
        ------
        DivergedError
            The answers are not finite, or so large that no correction can be worked out.
        """
        if not self.config.calibrate:
            return Calibration()
        with self._validation() as unseen:
            said = self.network.predict(unseen.as_input(), verbose=0)
            outcomes = self.data.outcomes(np.asarray(self.data.rows["validation"][unseen.order]))
        if self.config.targets == "every":
            said = {name: answers[:, -1] for name, answers in said.items()}
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # it shows in the result, which is refused
                return fit_calibration(
                    said["direction_logits"],
                    said["scaled_quantiles"],
                    np.exp(said["log_volatility_ratio"][:, 0]) * outcomes.volatility,
                    direction=outcomes.direction,
                    scaled_return=outcomes.scaled,
                    realised_volatility=outcomes.realised_volatility,
                    levels=self.config.quantiles,
                )
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise DivergedError(
                f"the answers to validation windows cannot be calibrated: {problem}",
                where=f"the best epoch, {self.state.best_epoch}, of {self.workdir}",
                remedy="lower learning_rate, or use precision float32",
            ) from error

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
