"""Scores against scikit-learn and against cases whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn import metrics

from training import scores
from training.data.dataset import TrainingSet
from training.errors import EvaluationError
from training.evaluate import Forecast, evaluate, information_bits, skill_against_best


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_scores_equal_scikit_learn(rng: np.random.Generator) -> None:
    outcome = rng.integers(0, 3, 500)
    p = rng.dirichlet((1, 2, 1), 500)
    up, score, weight = outcome == 2, np.round(rng.normal(size=500) + outcome, 1), rng.integers(0, 4, 500)
    assert np.isclose(scores.auc(score, up), metrics.roc_auc_score(up, score))
    weighted = scores.RankedScores(score, up).auc(weight.astype(float))
    assert np.isclose(weighted, metrics.roc_auc_score(up, score, sample_weight=weight))
    assert np.isclose(scores.log_loss(p, outcome), metrics.log_loss(outcome, p))
    assert np.isclose(scores.brier(p, outcome), metrics.brier_score_loss(outcome, p, scale_by_half=False))
    predicted = p.argmax(axis=1)
    assert np.isclose(
        scores.balanced_accuracy(predicted, outcome), metrics.balanced_accuracy_score(outcome, predicted)
    )
    assert np.isclose(scores.accuracy(predicted, outcome), metrics.accuracy_score(outcome, predicted))
    said, came = rng.normal(size=500), rng.normal(size=500)
    assert np.isclose(scores.pinball(said, came, 0.1), metrics.mean_pinball_loss(came, said, alpha=0.1))


def test_the_interval_knows_that_symbols_move_together(rng: np.random.Generator) -> None:
    """20 copies of one series hold what one holds: the interval must not shrink."""
    score = rng.normal(size=400)
    up, time = score + 3 * rng.normal(size=400) > 0, np.arange(400)

    def width(copies: int, block: int) -> float:
        low, high = scores.auc_interval(
            np.tile(score, copies), np.tile(up, copies), np.tile(time, copies), block=block, draws=200, seed=1
        )
        return high - low

    assert width(20, 5) == pytest.approx(width(1, 5), rel=0.02)
    low, high = scores.auc_interval(score, up, time, block=5, draws=200, seed=1)
    assert low < scores.auc(score, up) < high
    assert scores.auc_interval(score, np.ones(400, bool), time, block=5, draws=9, seed=1) is None
    assert scores.auc_interval(score, up, time, block=41, draws=9, seed=1) is None, "nine blocks"


def test_the_interval_covers_the_truth_as_often_as_it_says(rng: np.random.Generator) -> None:
    truth = float(ndtr(0.5 / np.sqrt(2)))  # two normals half a standard deviation apart
    hits = 0
    for seed in range(60):
        up = rng.random(300) < 0.5
        score = rng.normal(size=300) + 0.5 * up
        low, high = scores.auc_interval(score, up, np.arange(300), block=3, draws=100, seed=seed)
        hits += low <= truth <= high
    assert 50 <= hits <= 60


def test_skill_of_the_best_is_one_and_of_noise_none(rng: np.random.Generator) -> None:
    p = np.clip(0.5 + 0.15 * rng.normal(size=20_000), 0.05, 0.95)
    came = np.where(rng.random(20_000) < p, 0.01, -0.01)
    came[:10], came[10:20] = np.nan, 0
    best = skill_against_best(2 * p - 1, p, came)
    assert (
        best["rows"] == 19_980
        and best["share_of_auc"] == 1
        and best["share_of_bits"] == pytest.approx(1, abs=0.03)
    )
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean()
    assert best["bits_best"] == pytest.approx(1 - entropy, abs=0.01), (
        "the information of the true probabilities"
    )
    none = skill_against_best(rng.normal(size=20_000), p, came)
    assert abs(none["share_of_auc"]) < 0.1 and abs(none["share_of_bits"]) < 0.01
    half = skill_against_best(p + 0.15 * rng.normal(size=20_000), p, came)
    assert 0.6 < half["share_of_auc"] < 0.8 and 0.4 < half["share_of_bits"] < 0.6
    assert information_bits(np.ones(50), np.arange(50) % 2 == 0) == 0
    with pytest.raises(EvaluationError, match="same way"):
        skill_against_best(p, p, np.abs(came))


def test_evaluation_of_an_oracle_and_of_the_baselines(built: TrainingSet) -> None:
    outcomes = built.outcomes(built.rows["test"])
    sure = np.eye(3)[outcomes.direction]
    around = outcomes.log_return[:, None] + np.array([-0.001, 0, 0.001])
    found = evaluate(Forecast(sure, around), built, "test", draws=20)
    assert found["model"]["accuracy"] == found["model"]["coverage"] == 1.0 and found["model"]["brier"] == 0
    assert found["model"]["pinball_by_quantile"]["0.5"] == pytest.approx(0, abs=1e-6)
    assert found["always_flat"]["accuracy"] == pytest.approx(found["class_share"]["flat"])
    assert found["always_flat"]["log_loss"] is None and found["always_flat"]["auc_sign"] == 0.5
    assert found["base_rate"]["auc_sign"] == 0.5 and 0.6 < found["base_rate"]["coverage"] < 0.95
    assert found["persistence"]["auc_sign"] > 0.5, "a drift that persists"
    assert found["rows"] == len(outcomes.direction)


def test_persistence_looks_back_and_never_ahead(built: TrainingSet) -> None:
    h = built.manifest.config.horizon
    rows = built.rows["test"]
    past = np.log(built.close[rows[:, 0], rows[:, 1]] / built.close[rows[:, 0] - h, rows[:, 1]])
    moved = built.outcomes(rows).log_return != 0
    expected = scores.auc(
        (past / built.outcomes(rows).volatility)[moved], built.outcomes(rows).log_return[moved] > 0
    )
    says = Forecast(np.full((len(rows), 3), 1 / 3), np.zeros((len(rows), 3)))
    assert evaluate(says, built, draws=5)["persistence"]["auc_sign"] == pytest.approx(expected)


def test_forecasts_that_do_not_fit_are_refused(built: TrainingSet) -> None:
    n = len(built.rows["test"])
    good: Any = Forecast(np.full((n, 3), 1 / 3), np.zeros((n, 3)))
    for bad, message in (
        (Forecast(good.direction[1:], good.quantiles), "shape"),
        (Forecast(good.direction * np.nan, good.quantiles), "not finite"),
    ):
        with pytest.raises(EvaluationError, match=message):
            evaluate(bad, replace(built), "test")
