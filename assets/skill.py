"""How well a trained forecaster does on bars it has not seen, and how well anyone could."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from assets.planted_truth import best_p_up
from assets.platform import Platform
from assets.state_files import read_json, write_json
from training.config import DOWN, UP
from training.evaluate import evaluate, forecast, keras_predict_fn, skill_against_best
from training.fit import TrainedForecaster
from training.forecaster_files import load_forecaster
from training.training_set import TrainingSet

METRICS_FILE = "metrics.json"
_SPLIT = "test"


def judge(platform: Platform, trained: TrainedForecaster, data: TrainingSet) -> dict[str, Any]:
    """Judge a forecaster on the test split and keep the figures beside it.

    Returns
    -------
    dict
        What `training.evaluate.evaluate` returns, and under ``against_best`` what `skill_against_best` returns, or
        None on a market whose best nobody knows.
    """
    model, _ = load_forecaster(trained.path)
    said = forecast(keras_predict_fn(model), data, _SPLIT)
    metrics = evaluate(said, data, _SPLIT)
    with platform.exchange() as url:
        best = best_p_up(url, data, _SPLIT)
    metrics["against_best"] = None
    if best is not None and np.isfinite(best).any():
        realised = data.outcomes(data.rows[_SPLIT]).log_return
        metrics["against_best"] = skill_against_best(
            said.direction[:, UP] - said.direction[:, DOWN], best, realised
        )
    metrics["created_at"] = platform.now_ms()
    write_json(trained.path / METRICS_FILE, metrics)
    return metrics


def kept_metrics(folder: Path) -> dict[str, Any]:
    """Return the figures that `judge` kept beside a forecaster; empty where it was not judged."""
    return read_json(folder / METRICS_FILE) or {}


def in_words(metrics: dict[str, Any]) -> str:
    """Say in a line what the figures mean."""
    model = metrics["model"]
    low, high = model["auc_sign_interval"] or (float("nan"), float("nan"))
    said = f"AUC of the sign {model['auc_sign']:.3f} [{low:.3f}, {high:.3f}] on {metrics['rows']:,} unseen windows"
    best = metrics.get("against_best")
    if not best:
        return said + "; the best possible is not known on this market"
    share = best["share_of_auc"]
    return (
        said
        + f"; best possible {best['auc_best']:.3f}"
        + (f", {share:.0%} of its skill found" if share else "")
    )
