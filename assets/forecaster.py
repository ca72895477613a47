"""Asset `forecaster`: the trained Transformer-LSTM, and how well it does on bars it has not seen."""

from typing import Any

import dagster as dg
import polars as pl

from assets.failures import explained
from assets.metadata import line_plot, table
from assets.model_state import forecaster_folder, training_set_folder
from assets.platform import Platform
from assets.progress import StepProgress
from assets.skill import in_words, judge
from training.fit import TrainedForecaster, train
from training.progress import Progress
from training.training_set import TrainingSet

_JUDGED = ("model", "base_rate", "always_flat", "persistence")
_SCORES = ("accuracy", "balanced_accuracy", "auc_sign", "log_loss", "brier", "pinball", "coverage")


@dg.asset(
    deps=["training_set"],
    group_name="forecaster",
    kinds={"python", "tensorflow", "keras"},
    code_version="1",
    owners=["team:forecasting"],
)
@explained
def forecaster(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """The trained Transformer-LSTM, judged on the newest bars, which it has not seen; goes on where it was stopped."""
    data = TrainingSet.load(training_set_folder(platform.home))
    folder = forecaster_folder(platform.home, data.manifest.training_set_id)
    with StepProgress(context, "training", "steps") as progress:
        trained = train(data, data.manifest.config, folder, lambda p: _tell(progress, p))
    context.log.info("trained; judging it on the test split")
    return dg.MaterializeResult(metadata=_metadata(trained, judge(platform, trained, data)))


def _tell(progress: StepProgress, p: Progress) -> None:
    done = (p.epoch - 1) * p.steps + p.step
    validation = "" if p.validation_loss is None else f", validation {p.validation_loss:.4f}"
    progress.update(done, p.epochs * p.steps, f"epoch {p.epoch}/{p.epochs}, loss {p.loss:.4f}{validation}")


def _metadata(trained: TrainedForecaster, metrics: dict[str, Any]) -> dict[str, Any]:
    epochs = [record.epoch for record in trained.history]
    losses = {
        "training loss": (epochs, [record.loss for record in trained.history]),
        "validation loss": (epochs, [record.validation_loss for record in trained.history]),
    }
    rates = {"learning rate": (epochs, [record.learning_rate for record in trained.history])}
    speed = {"windows per second": (epochs, [record.windows_per_second for record in trained.history])}
    scores = [{"forecast": name} | {score: metrics[name].get(score) for score in _SCORES} for name in _JUDGED]
    return {
        "summary": in_words(metrics),
        "epochs": len(epochs),
        "best_epoch": trained.meta.best_epoch,
        "scores": table(pl.DataFrame(scores)),
        "against_best": dg.MetadataValue.json(metrics["against_best"] or {}),
        "losses": line_plot(losses, x_label="epoch", y_label="loss"),
        "learning_rate": line_plot(rates, x_label="epoch", y_label="learning rate"),
        "throughput": line_plot(speed, x_label="epoch", y_label="windows per second"),
        "config": dg.MetadataValue.json(trained.config.model_dump(mode="json")),
        "folder": dg.MetadataValue.path(trained.path),
    }
