"""Controls of a training run: honest data pass, and a planted leak does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernels.compute import FeatureBlock, compute
from training import scores
from training.config import ForecasterConfig
from training.controls.markets import longer_bars, planted_market, planted_p_up, random_walk
from training.controls.run import (
    CONTROLS_FILE,
    LEAST_SHARE,
    ControlsReport,
    judge_without_skill,
    read_controls,
    run_controls,
)
from training.controls.sets import random_walk_set, shuffled_labels
from training.controls.verdicts import (
    FoundShare,
    Interval,
    NoSkill,
    auc_contributions,
    found_share,
    student_interval,
)
from training.controls.words import in_words, outcome_in_words
from training.data.dataset import build_training_set
from training.data.splits import SPLITS
from training.data.targets import NO_TARGET
from training.data.training_set import TrainingSet
from training.errors import EvaluationError, TrainingSetError
from training.progress import Progress

FEATURES = ("log_return_1", "realised_vol_30", "rsi_14", "taker_imbalance", "hour_sin")
OWN = FoundShare(rows=100, bits=0.016, bits_best=0.0175, share=0.9)


@pytest.fixture(scope="module")
def config() -> ForecasterConfig:
    return ForecasterConfig(window=8, horizon=3)


@pytest.fixture(scope="module")
def data(config: ForecasterConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    market = planted_market(bars=2_500, symbols=4, seed=3)
    folder = tmp_path_factory.mktemp("controls") / "set"
    return build_training_set(compute(market, FEATURES), market.columns["close"], "5m", config, folder)


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    """Labels that overlap over 6 bars and are shared by symbols; at 95 % a handful of 400 may miss."""
    rng = np.random.default_rng(0)
    time = np.repeat(np.arange(1_200), 3)
    missed = 0
    for _ in range(400):
        noise = rng.standard_normal((1_205, 1)) + 0.5 * rng.standard_normal((1_205, 3))
        values = np.cumsum(noise, axis=0)[5:] - np.vstack([np.zeros((1, 3)), np.cumsum(noise, axis=0)[:-6]])
        found = student_interval(values.ravel(), time, block=48, level=0.95)
        missed += not found.low <= 0 <= found.high
    assert 5 <= missed <= 36
    with pytest.raises(EvaluationError, match="1 block"):
        student_interval(np.ones(10), np.arange(10), block=48)


def test_contributions_to_the_auc() -> None:
    rng = np.random.default_rng(1)
    score, up = np.round(rng.normal(size=2_000), 1), rng.random(2_000) < 0.4
    found = auc_contributions(score + up, up)
    assert found.mean() == pytest.approx(scores.auc(score + up, up), abs=1e-12)
    spread = np.std([scores.auc(score[at], up[at]) for at in rng.integers(0, 2_000, (300, 2_000))])
    assert auc_contributions(score, up).std() / np.sqrt(2_000) == pytest.approx(spread, rel=0.15)


def test_shuffled_labels_are_those_of_another_time(data: TrainingSet, config: ForecasterConfig) -> None:
    """Each scaled label is made to say which bar it is of; then every row tells where its label is from."""
    bar = np.arange(len(data.open_time), dtype=np.float32)[:, None]
    marked = replace(data, log_return=bar * data.volatility)
    found = shuffled_labels(marked, seed=5)
    for split in SPLITS:
        rows, own = found.rows[split], data.rows[split]
        source = np.rint(found.outcomes(rows).scaled).astype(int)
        away = np.abs(source - rows[:, 0])
        assert (away >= config.window + config.horizon).all(), "outside of the window, before it or after it"
        assert source.min() >= own[0, 0] and source.max() <= own[-1, 0], "of the same split"
        assert (data.direction[source, rows[:, 1]] == found.outcomes(rows).direction).all()
        assert len(rows) > 0.8 * len(own)
        assert len({tuple(one) for one in away.reshape(-1, 1)}) > 2, "no common shift"
    same = found.rows["test"][:, 1] == 0
    steps = np.diff(np.rint(found.outcomes(found.rows["test"][same]).scaled))
    assert (steps == 1).mean() > 0.9, "neighbouring labels stay neighbours, as their overlap wants it"
    assert found.manifest.training_set_id != data.manifest.training_set_id
    assert shuffled_labels(marked, seed=5).manifest == found.manifest
    assert shuffled_labels(marked, seed=6).manifest.training_set_id != found.manifest.training_set_id
    assert (data.direction != NO_TARGET).sum() > 0 and data.features is found.features


def test_too_few_bars_to_shuffle_are_refused(data: TrainingSet) -> None:
    few = replace(data, rows={split: rows[:40] for split, rows in data.rows.items()})
    with pytest.raises(TrainingSetError, match="too few to shuffle"):
        shuffled_labels(few)


def test_a_random_walk_has_no_memory_and_longer_bars_fit() -> None:
    walk = random_walk("5m", bars=6_000, symbols=3, seed=1)
    close = walk.columns["close"]
    returns = np.diff(np.log(close), axis=0)
    for lag in (1, 2, 6):
        assert np.abs((returns[lag:] * returns[:-lag]).mean(axis=0) / returns.var(axis=0)).max() < 0.06
    share = walk.columns["taker_buy_base"] / walk.columns["volume"]
    assert abs(np.corrcoef(share[:-1].ravel(), returns.ravel())[0, 1]) < 0.03, "takers know nothing"
    assert (walk.columns["high"] >= np.maximum(walk.columns["open"], close)).all()
    assert (walk.columns["low"] <= np.minimum(walk.columns["open"], close)).all()
    assert np.array_equal(random_walk("5m", bars=6_000, symbols=3, seed=1).columns["close"], close)
    hours = longer_bars(walk, "1h")
    assert np.array_equal(hours.columns["close"][:-1], close[11:][::12][: len(hours.open_time) - 1])
    assert hours.columns["volume"][0] == pytest.approx(walk.columns["volume"][:12].sum(axis=0))
    assert (hours.columns["high"][0] == walk.columns["high"][:12].max(axis=0)).all()


def test_a_simulated_market_is_that_of_the_exchange_and_its_truth_is_true() -> None:
    market = planted_market(bars=3_000, symbols=6, seed=3)
    best = planted_p_up(market, seed=3, horizon=6)
    close = market.columns["close"]
    came = np.log(close[6:] / close[:-6])
    known = np.isfinite(came) & (came != 0) & np.isfinite(best[:-6])
    assert 0.56 < scores.auc(best[:-6][known], came[known] > 0) < 0.62
    assert np.isfinite(close).mean() > 0.99


def test_the_share_of_what_can_be_known() -> None:
    rng = np.random.default_rng(2)
    logit = 0.4 * rng.normal(size=20_000)
    p = 1 / (1 + np.exp(-logit))
    assert found_share(3 * logit + 1, p).share == pytest.approx(1, abs=1e-4)
    assert found_share(np.zeros(20_000), p).share == pytest.approx(0, abs=1e-9)
    half = found_share(logit + 0.4 * rng.normal(size=20_000), p)
    assert half.share == pytest.approx(0.5, abs=0.03), "correlation 0.71 with the best score"
    assert found_share(-logit, p).share == pytest.approx(1, abs=1e-4), "its sign is learned by the fit"
    with pytest.raises(EvaluationError, match="nothing can be known"):
        found_share(logit, np.full(20_000, 0.5))


def test_honest_data_pass_and_a_stopped_run_goes_on(
    data: TrainingSet, config: ForecasterConfig, tmp_path: Path
) -> None:
    begun: list[str] = []
    told: list[Progress] = []

    def stop(name: str) -> None:
        begun.append(name)
        if name == "random_walk":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_controls(data, config, tmp_path, own_share=OWN, progress=stop)
    part = read_controls(tmp_path)
    assert part is not None and part.shuffled_labels is not None and part.random_walk is None
    report = run_controls(data, config, tmp_path, own_share=OWN, progress=begun.append, training=told.append)
    assert (told[-1].done, told[-1].total) == (2 * told[-1].steps, 2 * told[-1].steps), (
        "how its training went"
    )
    assert begun == ["shuffled_labels", "random_walk", "random_walk"], "nothing twice"
    assert report.shuffled_labels == part.shuffled_labels
    assert report.shuffled_labels is not None and report.shuffled_labels.passed, report
    assert report.random_walk is not None and report.random_walk.passed, report
    assert report.planted_signal == OWN and report.planted_market == "own"
    assert run_controls(data, config, tmp_path, own_share=OWN, progress=begun.append) == report
    assert len(begun) == 3
    assert ControlsReport(**json.loads((tmp_path / CONTROLS_FILE).read_text())) == report
    words = in_words(report)
    assert "no skill, as it must be" in words["random_walk_gives_no_skill"]
    assert "90% of the planted information" in words["planted_signal_is_found"]
    less = in_words(report.model_copy(update={"planted_signal": OWN.model_copy(update={"share": 0.4})}))
    assert "train longer" in less["planted_signal_is_found"] and LEAST_SHARE == 0.8
    assert outcome_in_words(report) == "it has passed its checks"
    off = run_controls(data, config, tmp_path, own_share=OWN, least_share=0.0, progress=begun.append)
    assert len(begun) == 3, "the limit has no influence on the results"
    assert read_controls(tmp_path) == off == report.model_copy(update={"least_share": 0.0})


def test_a_check_that_a_limit_let_pass_is_not_called_passed() -> None:
    chance = Interval(value=0.5, low=0.4, high=0.6, blocks=10)
    nothing = Interval(value=0.0, low=-0.1, high=0.1, blocks=10)
    passed = NoSkill(rows=1, level=0.9999, auc_sign=chance, log_loss_gain=nothing)
    leaking = passed.model_copy(update={"auc_sign": nothing})
    little = OWN.model_copy(update={"share": 0.12})
    report = ControlsReport(
        settings_id="", shuffled_labels=passed, random_walk=passed, planted_signal=little, least_share=0.0
    )
    told = in_words(report)["planted_signal_is_found"]
    assert "12% of the planted information" in told and "turned off by least_share 0 (by default 0.8)" in told
    assert "not shown to learn" in told and "turned off" in outcome_in_words(report)
    lowered = report.model_copy(update={"least_share": 0.1})
    assert "one of its checks was let pass: 12%" in outcome_in_words(lowered)
    assert "at least 10% is asked for, lowered by least_share from 80%" in outcome_in_words(lowered)
    found = report.model_copy(update={"planted_signal": OWN})
    assert outcome_in_words(found).startswith("it has passed its checks: 90% of"), "it would have without it"
    assert "turned off by least_share 0" in outcome_in_words(found), "and that is said"
    for lacking in ({"least_share": 0.8}, {"random_walk": leaking}):
        assert outcome_in_words(report.model_copy(update=lacking)) == "it has not passed its controls"
    assert "have not all been run" in outcome_in_words(report.model_copy(update={"planted_signal": None}))
    assert "have not been run" in outcome_in_words(None)


def test_a_feature_that_looks_one_bar_ahead_is_seen_on_a_random_walk(
    config: ForecasterConfig, tmp_path: Path
) -> None:
    walk = random_walk("5m", bars=2_600, symbols=4, seed=0)
    block = compute(walk, FEATURES)
    ahead = np.full_like(block.values[:1], np.nan)
    ahead[0, :-1] = block.values[0, 1:]  # the return of the next bar
    leaky = FeatureBlock(
        np.concatenate([block.values, ahead]), (*block.names, "roc_3"), block.open_time, block.symbols
    )
    settings = config.model_copy(update={"train_share": 0.5, "validation_share": 0.1})
    made = build_training_set(leaky, walk.columns["close"], "5m", settings, tmp_path / "set")
    verdict = judge_without_skill(made, config, tmp_path / "work", sign_only=True)
    assert not verdict.passed and verdict.auc_sign.low > 0.5 and verdict.log_loss_gain.low > 0, verdict


def test_labels_that_reach_the_windows_are_seen_on_shuffled_labels(
    data: TrainingSet, config: ForecasterConfig, tmp_path: Path
) -> None:
    """A mistake after the labels are known: the window of bar t holds the scaled outcome of bar t."""
    shuffled = shuffled_labels(data)
    features = np.array(data.features)
    features[:, :, 2] = 50 + 5 * np.nan_to_num(shuffled.log_return / shuffled.volatility).T
    verdict = judge_without_skill(
        replace(shuffled, features=features), config, tmp_path / "work", sign_only=False
    )
    assert not verdict.passed and verdict.log_loss_gain.low > 0, verdict


def test_a_walk_with_features_of_a_longer_interval(config: ForecasterConfig, tmp_path: Path) -> None:
    made = random_walk_set("15m", (*FEATURES, "rsi_14@1h"), config, tmp_path / "set")
    assert made.feature_names[-1] == "rsi_14@1h"
    assert len(np.unique(made.rows["test"][:, 0])) > 30 * 8 * config.horizon
