"""Asset `forecaster`: the trained Transformer-LSTM, and how well it does on bars it has not seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets.failures import explained
from assets.forecaster_runs import Kept, clear_leftovers, keep_few, note_use, run_folder, run_lock
from assets.kept_metrics import judged_already
from assets.metadata import bar_plot, line_plot, table
from assets.model_state import training_set_folder
from assets.platform import Platform
from assets.progress import StepProgress
from assets.retraining import champion_forecaster, training_trial
from assets.skill import in_words, judge
from assets.turns import turn_at
from assets.wording import utc
from training.code_identity import identity
from training.data.training_set import TrainingSet
from training.fitting.fit import TrainedForecaster, identity_of_run, train
from training.fitting.warm_start import seen_of_test

_JUDGED = ("model", "base_rate", "always_flat", "persistence")
_SCORES = ("accuracy", "balanced_accuracy", "auc_sign", "log_loss", "brier", "pinball", "coverage")


class TrainingForm(dg.Config):
    """How a training begins."""

    warm_start: bool = Field(
        default=False,
        description="Begin with the weights of the champion, which must have the same features and shapes; without a"
        " champion, or if it has seen bars of the test split, with random ones.",
    )


@dg.asset(
    deps=["training_set"],
    group_name="forecaster",
    kinds={"python", "tensorflow", "keras"},
    code_version="1",
    owners=["team:forecasting"],
)
@explained
def forecaster(
    context: dg.AssetExecutionContext, config: TrainingForm, platform: Platform
) -> dg.MaterializeResult:
    """The trained Transformer-LSTM, judged on the newest bars, which it has not seen; goes on where it was stopped."""
    data = TrainingSet.load(training_set_folder(platform.home))
    initial, start = _start(platform.home, data, warm=config.warm_start)
    context.log.info(start)
    run = identity("forecaster", identity_of_run(data, data.manifest.config, initial=initial))[:16]
    with turn_at(run_lock(platform.home, run), context.log.info):
        note_use(run_folder(platform.home, run), data)
        trained, metrics, already = _trained(context, platform, data, run_folder(platform.home, run), initial)
    kept = keep_few(platform.home)
    context.log.info(f"forecasters on this disk: {kept}")
    return dg.MaterializeResult(metadata=_metadata(trained, metrics, already) | _more(start, kept))


def _trained(
    context: dg.AssetExecutionContext,
    platform: Platform,
    data: TrainingSet,
    folder: Path,
    initial: Path | None,
) -> tuple[TrainedForecaster, dict[str, Any], str]:
    """Train and judge, as far as that is not done; returns the figures, and since when all of it was there."""
    clear_leftovers(folder)
    with (
        StepProgress(context, "training", "steps") as progress,
        training_trial(platform, data, initial) as ended,
    ):
        progress.say("getting ready")
        trained = train(
            data,
            data.manifest.config,
            folder,
            lambda p: progress.update(p.done, p.total, str(p)),
            initial=initial,
        )
        ended["validation_loss"] = trained.history[trained.meta.best_epoch - 1].validation_loss
    made_of = {
        "weights_sha256": trained.meta.weights_sha256,
        "training_set_id": data.manifest.training_set_id,
    }
    if (metrics := judged_already(trained.path, **made_of)) is not None:
        already = f"already there: made at {utc(metrics['created_at'])}"
        context.log.info(f"{already} from the same data and settings, and judged by the same code")
        return trained, metrics, already
    with StepProgress(context, "judging on the test split", "parts") as progress:
        return trained, judge(platform, trained, data, progress.update), ""


def _more(start: str, kept: Kept) -> dict[str, Any]:
    return {"start": start, "kept": str(kept), "kept_bytes": kept.bytes}


def _start(home: Path, data: TrainingSet, *, warm: bool) -> tuple[Path | None, str]:
    """Choose the forecaster to begin with, None for random weights, and say why."""
    champion = champion_forecaster(home) if warm else None
    if champion is None:
        return None, "cold: random weights" + (", since there is no champion to begin with" if warm else "")
    if seen := seen_of_test(champion, data):
        return None, f"cold: random weights, not those of {champion.name}, since {seen}"
    return champion, f"warm: the weights of {champion.name}"


def _metadata(trained: TrainedForecaster, metrics: dict[str, Any], already: str = "") -> dict[str, Any]:
    epochs = [record.epoch for record in trained.history]
    best = trained.history[trained.meta.best_epoch - 1]
    losses = {
        "training loss": (epochs, [record.loss for record in trained.history]),
        "validation loss": (epochs, [record.validation_loss for record in trained.history]),
    }
    rates = {"learning rate": (epochs, [record.learning_rate for record in trained.history])}
    speed = {"windows per second": (epochs, [record.windows_per_second for record in trained.history])}
    scores = [{"forecast": name} | {score: metrics[name].get(score) for score in _SCORES} for name in _JUDGED]
    return {
        "summary": f"{already}; {in_words(metrics)}" if already else in_words(metrics),
        "epochs": len(epochs),
        "best_epoch": trained.meta.best_epoch,
        "training_loss": best.loss,
        "validation_loss": best.validation_loss,
        "windows_per_second": max(record.windows_per_second for record in trained.history),
        "test_log_loss": metrics["model"]["log_loss"],
        "scores": table(pl.DataFrame(scores)),
        "against_best": dg.MetadataValue.json(metrics["against_best"] or {}),
        "importance": table(_importance(metrics)),
        "importance_plot": bar_plot(
            {one["group"]: one["log_loss"] for one in metrics["importance"]},
            y_label="rise of the log loss, nats",
        ),
        "losses": line_plot(losses, x_label="epoch", y_label="loss"),
        "learning_rate": line_plot(rates, x_label="epoch", y_label="learning rate"),
        "throughput": line_plot(speed, x_label="epoch", y_label="windows per second"),
        "input_wait_share": max(record.input_wait_share or 0.0 for record in trained.history),
        "computation": trained.meta.environment.get("computation_reason", ""),
        "calibration": dg.MetadataValue.json(trained.meta.calibration.model_dump(mode="json")),
        "config": dg.MetadataValue.json(trained.config.model_dump(mode="json")),
        "folder": dg.MetadataValue.path(trained.path),
    }


def _span(interval: Sequence[float] | None) -> str:
    return f"{interval[0]:+.4f} to {interval[1]:+.4f}" if interval else "too few blocks of time"


def _importance(metrics: dict[str, Any]) -> pl.DataFrame:
    """What the forecaster loses when a group of features tells of another window; see docs/controls.md."""
    return pl.DataFrame(
        [
            {
                "features": one["group"],
                "rise of the log loss": one["log_loss"],
                "95 % interval": _span(one["log_loss_interval"]),
                "AUC lost": one["auc_sign"],
                "rise of the pinball loss": one["pinball"],
                "which": ", ".join(one["features"]),
            }
            for one in metrics["importance"]
        ]
    )
