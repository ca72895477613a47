"""How well a trained forecaster does on bars it has not seen, and how well anyone could."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from assets.kept_metrics import keep_metrics, kept_metrics
from assets.planted_truth import best_p_up
from assets.platform import Platform
from training.controls.run import sign_score
from training.controls.verdicts import FoundShare, found_share
from training.data.training_set import TrainingSet
from training.evaluate import BLOCK_HORIZONS, evaluate, forecast, keras_predict_fn, skill_against_best
from training.fitting.fit import TrainedForecaster
from training.known_best import auc_beside_best
from training.known_best import in_words as best_in_words
from training.monitoring.importance import groups_of, permutation_importance
from training.network.forecaster_files import load_forecaster

_SPLIT = "test"


def judge(
    platform: Platform,
    trained: TrainedForecaster,
    data: TrainingSet,
    progress: Callable[[float, float, str], None],
) -> dict[str, Any]:
    """Judge a forecaster on the test split and keep the figures beside it.

    `progress` is told how much of how much is done, and what is done next: the forecasts are as much as the importance
    of the features.

    Returns
    -------
    dict
        What `training.evaluate.evaluate` returns, and under ``against_best`` what `skill_against_best` and
        `training.known_best.auc_beside_best` return with, under ``information``, what
        `training.controls.verdicts.found_share` does; None on a market whose best nobody knows. Under ``importance``
        that of the groups of features.
    """
    model, _ = load_forecaster(trained.path)
    predict = keras_predict_fn(model)
    groups = len(groups_of(data.feature_names))
    said = forecast(predict, data, _SPLIT, lambda n, of: progress(groups * n / of, 2 * groups, "forecasts"))
    progress(groups, 2 * groups, "scores and their intervals")
    metrics = evaluate(said, data, _SPLIT)
    with platform.exchange() as url:
        best = best_p_up(url, data, _SPLIT)
    metrics["against_best"] = None
    if best is not None and np.isfinite(best).any():
        realised = data.outcomes(data.rows[_SPLIT]).log_return
        score = sign_score(said)
        information = found_share(score, best).model_dump()
        block = BLOCK_HORIZONS * data.manifest.config.horizon
        beside = auc_beside_best(score, best, realised, data.rows[_SPLIT][:, 0], block=block)
        skill = skill_against_best(score, best, realised)
        metrics["against_best"] = skill | beside | {"information": information}
    importance = permutation_importance(
        predict,
        data,
        _SPLIT,
        progress=lambda n, of: progress(groups + n, groups + of, "importance of the features"),
    )
    metrics["importance"] = [one.model_dump(mode="json") for one in importance]
    metrics["weights_sha256"] = trained.meta.weights_sha256
    metrics["created_at"] = _made_at(trained, platform)
    kept_for = {
        "weights_sha256": trained.meta.weights_sha256,
        "training_set_id": data.manifest.training_set_id,
    }
    keep_metrics(trained.path, metrics, **kept_for)
    return metrics


def _made_at(trained: TrainedForecaster, platform: Platform) -> int:
    """Return when the forecaster was made: judged again, the same weights keep their time, and so their version."""
    before = kept_metrics(trained.path)
    if before.get("weights_sha256") == trained.meta.weights_sha256:
        return int(before["created_at"])
    return platform.now_ms()


def found_of_own_market(folder: Path) -> FoundShare | None:
    """Return how much of the signal planted in its own market a judged forecaster found; None on other markets."""
    found = (kept_metrics(folder).get("against_best") or {}).get("information")
    return FoundShare(**found) if found else None


def in_words(metrics: dict[str, Any]) -> str:
    """Say in a line what the figures mean."""
    model = metrics["model"]
    told = model["auc_sign_interval"]
    interval = f"[{told[0]:.3f}, {told[1]:.3f}]" if told else "(too few blocks of time for an interval)"
    area = "unknown" if model["auc_sign"] is None else f"{model['auc_sign']:.3f}"
    said = f"AUC of the sign {area} {interval} on {metrics['rows']:,} unseen windows"
    best = metrics.get("against_best")
    if not best:
        return said + "; the best possible is not known on this market"
    return f"{said}; {best_in_words(best)}"
