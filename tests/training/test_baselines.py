"""Baselines: none sees what comes later, each finds what it can find, and HAR is the regression of the paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training import scores
from training.baselines.past import past_realised_volatility
from training.baselines.registry import BASELINES, baseline
from training.config import DOWN, FLAT, UP
from training.data.dataset import TrainingSet, build_training_set
from training.errors import EvaluationError


@pytest.fixture
def data(planted, tiny, tmp_path: Path) -> TrainingSet:
    market = planted(1500, 3, strength=0.7)
    config = tiny.model_copy(update={"max_windows": 1500})
    return build_training_set(market.block, market.close, "5m", config, tmp_path / "set")


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_says_the_same_whatever_comes_later(name, planted, tiny, tmp_path: Path) -> None:
    config = tiny.model_copy(update={"max_windows": 300, "epochs": 1})
    market = planted(600, 3, strength=0.7)
    data = build_training_set(market.block, market.close, "5m", config, tmp_path / "set")
    known = int(data.rows["test"][0, 0]) + 10
    other = market.changed_after(known)
    changed = build_training_set(other.block, other.close, "5m", config, tmp_path / "changed")
    rows = data.rows["test"][data.rows["test"][:, 0] <= known]
    assert len(rows) == 3 * 11
    said, again = (baseline(name)(each, seed=1)(rows) for each in (data, changed))
    for one, two in zip(said, again, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", ["logistic", "boosting", "plain_lstm"])
def test_what_can_learn_finds_a_planted_signal(name, data) -> None:
    rows = data.rows["test"]
    said = baseline(name)(data, seed=1)(rows)
    outcomes = data.outcomes(rows)
    assert scores.auc(said.score, outcomes.log_return > 0) > 0.6
    base = baseline("base_rate")(data, seed=1)(rows)
    assert scores.log_loss(said.probability, outcomes.direction) < scores.log_loss(
        base.probability, outcomes.direction
    )
    np.testing.assert_allclose(said.probability.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(said.score, said.probability[:, UP] - said.probability[:, DOWN])
    if said.quantiles is not None:
        assert (np.diff(said.quantiles, axis=1) >= 0).all()


def test_forecasts_that_need_no_learning_are_what_they_are_called(data) -> None:
    rows = data.rows["test"]
    t, s = rows.T
    config = data.manifest.config
    assert (baseline("always_flat")(data, seed=1)(rows).predicted == FLAT).all()
    kept = baseline("persistence")(data, seed=1)(rows)
    past = np.log(data.close[t, s] / data.close[t - config.horizon, s])
    np.testing.assert_allclose(kept.score * data.volatility[t, s], past, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(
        np.sign(kept.predicted - FLAT)[kept.predicted != FLAT], np.sign(past)[kept.predicted != FLAT]
    )
    base = baseline("base_rate")(data, seed=1)(rows)
    np.testing.assert_allclose(base.probability, np.tile(data.manifest.class_share["train"], (len(rows), 1)))
    learned = data.outcomes(data.rows["train"])
    np.testing.assert_allclose(
        np.log(base.volatility / data.volatility[t, s]), np.nanmean(learned.log_volatility_ratio), rtol=1e-4
    )


def test_past_realised_volatility_is_the_root_of_the_summed_squares() -> None:
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (60, 2)), axis=0))
    close[30, 1] = np.nan
    steps = np.diff(np.log(close), axis=0)
    rows = np.array([[20, 0], [59, 0], [59, 1], [5, 0], [33, 1]])
    found = past_realised_volatility(close, rows, 10)
    assert found[0] == pytest.approx(np.sqrt((steps[10:20, 0] ** 2).sum()))
    assert found[1] == pytest.approx(np.sqrt((steps[49:59, 0] ** 2).sum()))
    assert found[2] == pytest.approx(np.sqrt((steps[49:59, 1] ** 2).sum()))
    assert found[3] == pytest.approx(np.sqrt((steps[:5, 0] ** 2).mean() * 10))  # half of the span is there
    there = np.concatenate([steps[23:29, 1], steps[31:33, 1]])
    assert found[4] == pytest.approx(np.sqrt((there**2).mean() * 10))
    assert np.isnan(past_realised_volatility(close, np.array([[4, 0]]), 10)[0])
    assert past_realised_volatility(close, rows, 10, scaled_to=40)[0] == pytest.approx(2 * found[0])


def test_har_is_the_least_squares_fit_on_the_training_rows(data) -> None:
    config, train, rows = data.manifest.config, data.rows["train"], data.rows["test"]
    spans = [config.horizon * k for k in (1, 5, 22)]

    def past(of: np.ndarray) -> np.ndarray:
        found, last = [np.ones(len(of))], data.volatility[of[:, 0], of[:, 1]].astype(float)
        for span in spans:
            column = past_realised_volatility(data.close, of, span, scaled_to=config.horizon)
            last = np.where(np.isfinite(column), column, last)
            found.append(last)
        return np.column_stack(found)

    expected = np.empty(len(rows))
    for symbol in range(3):
        mine, asked = train[train[:, 1] == symbol], rows[:, 1] == symbol
        came = data.realised_volatility[mine[:, 0], symbol].astype(float)
        weights, *_ = np.linalg.lstsq(past(mine), came, rcond=None)
        expected[asked] = np.clip(past(rows[asked]) @ weights, came.min(), came.max())
    said = baseline("har")(data, seed=1)(rows).volatility
    np.testing.assert_allclose(said, expected, rtol=1e-8)
    came = data.realised_volatility[rows[:, 0], rows[:, 1]]
    in_logs = baseline("har_log")(data, seed=1)(rows).volatility
    usual = np.full(len(rows), data.realised_volatility[train[:, 0], train[:, 1]].mean())
    for forecast in (said, in_logs):
        assert ((came - forecast) ** 2).mean() < ((came - usual) ** 2).mean()


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no baseline oracle"):
        baseline("oracle")
