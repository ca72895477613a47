"""Importance of feature groups, drift of features, and the skill of served predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import INTERVAL, PlantedMarket
from training.config import ForecasterConfig, Normalisation
from training.data.dataset import build_training_set
from training.data.training_set import TrainingSet
from training.errors import EvaluationError
from training.evaluate import Forecast
from training.monitoring.drift import FLOOR, feature_drift
from training.monitoring.importance import groups_of, permutation_importance
from training.monitoring.served_skill import LEAST_ROWS, served_skill


@pytest.fixture
def strong(planted: Callable[..., PlantedMarket], tiny: ForecasterConfig, tmp_path: Path) -> TrainingSet:
    market = planted(3_000, 3, strength=0.7)
    return build_training_set(market.block, market.close, INTERVAL, tiny, tmp_path / "set")


def of_takers_alone(windows: np.ndarray) -> Forecast:
    """A forecaster that looks at one feature: the takers of the last bar."""
    up = 1 / (1 + np.exp(-6 * windows[:, -1, 0]))
    direction = np.stack([0.7 * (1 - up), np.full(len(up), 0.3), 0.7 * up], axis=1)
    return Forecast(direction, windows[:, -1, 2:3] * np.array([-2.2, 0.0, 2.2]))


def test_what_a_forecaster_does_not_look_at_is_worth_nothing(strong: TrainingSet) -> None:
    groups = {"takers": ("taker_imbalance",), "noise": ("noise_1", "noise_2"), "scale": ("realised_vol_30",)}
    found = permutation_importance(of_takers_alone, strong, groups=groups, draws=200)
    by_group = {one.group: one for one in found}
    assert found[0].group == "takers" and found[0].log_loss_interval[0] > 0 and found[0].auc_sign > 0.1
    noise = by_group["noise"]
    assert noise.log_loss == noise.auc_sign == noise.pinball == 0 and noise.log_loss_interval == (0, 0)
    assert by_group["scale"].log_loss == 0 and by_group["scale"].pinball > 0, "quantiles alone look at it"
    assert permutation_importance(of_takers_alone, strong, groups=groups, draws=200) == found
    short = permutation_importance(of_takers_alone, strong, groups=groups, rows=50, draws=20)
    assert [one.log_loss_interval for one in short] == [None] * 3, "50 rows fill two blocks"
    with pytest.raises(EvaluationError, match="no feature 'rsi_99'"):
        permutation_importance(of_takers_alone, strong, groups={"x": ("rsi_99",)})


def test_groups_keep_longer_intervals_apart() -> None:
    names = ("rsi_14", "cci_20", "hour_sin", "rsi_14@1h")
    assert groups_of(names) == {
        "momentum": ("rsi_14", "cci_20"),
        "clock": ("hour_sin",),
        "momentum@1h": ("rsi_14@1h",),
    }


NAMES = ("a", "b", "c", "d", "e")
STANDARD = Normalisation(mean=(0.0,) * 5, std=(1.0,) * 5)


def walk_about(rng: np.random.Generator, bars: int) -> np.ndarray:
    """Five features (bars, 3, 5) of slowly changing level, each of variance about 1."""
    level = np.zeros((bars, 1, 5))
    for t in range(1, bars):
        level[t] = 0.99 * level[t - 1] + 0.1 * rng.standard_normal((1, 5))
    return (level + 0.7 * rng.standard_normal((bars, 3, 5))).astype(np.float32)


def test_what_moves_as_ever_has_not_drifted() -> None:
    """Slow levels put recent bars far from the mean; the pieces of the training span were just as far."""
    many, standard = [f"f{i}" for i in range(15)], Normalisation(mean=(0.0,) * 15, std=(1.0,) * 15)
    alarms = 0
    for seed in range(10):
        values = np.repeat(walk_about(np.random.default_rng(seed), 3_300), 3, axis=2)  # families of three
        report = feature_drift(values[:3_000], values[3_000:], many, standard)
        assert report.pieces == 10 and len(report.over_time) == 11 and not np.isnan(report.over_time).any()
        assert max(one.usual for one in report.features) > FLOOR, "a fixed threshold alone would cry wolf"
        alarms += report.drifted
    assert alarms <= 1


def test_a_market_that_changed_has_drifted() -> None:
    values = walk_about(np.random.default_rng(0), 3_300)
    recent = values[3_000:].copy()
    recent[:, :, 1] = 3 * recent[:, :, 1] + 2
    recent[:, :, 3] += 3
    recent[:5, 0] = np.nan
    report = feature_drift(values[:3_000], recent, NAMES, STANDARD)
    assert {one.feature for one in report.features[:2]} == {"b", "d"}
    assert report.drifted and report.features[0].drifted and "no longer looks" in report.words
    assert [one.drifted for one in report.features[2:]] == [False] * 3
    with pytest.raises(EvaluationError, match="do not tell what is usual"):
        feature_drift(values[:600], recent, NAMES, STANDARD)
    with pytest.raises(EvaluationError, match="do not fit"):
        feature_drift(values, recent, NAMES[:3], STANDARD)
    with pytest.raises(EvaluationError, match="no feature has a value"):
        feature_drift(values, np.full((9, 3, 5), np.nan), NAMES, STANDARD)


@pytest.mark.parametrize(("slope", "verdict"), [(1.0, "better"), (0.0, "no better"), (-1.0, "worse")])
def test_served_predictions_are_judged_once_their_outcome_is_known(slope: float, verdict: str) -> None:
    rng = np.random.default_rng(4)
    time = np.repeat(np.arange(2_000) * 300_000, 3)
    signal = rng.normal(size=len(time))
    came = 0.01 * (0.5 * signal + rng.normal(size=len(time)))
    came[-300:] = np.nan  # not known yet
    up = 1 / (1 + np.exp(-slope * signal))
    quantile = np.full(len(time), 0.0143)
    found = served_skill(time, 0.6 * (1 - up), 0.6 * up, -quantile, quantile, came, horizon_ms=900_000)
    assert found.rows == len(time) - 300 and sum(one.rows for one in found.periods) == found.rows
    assert f"is {verdict}" in found.words and found.worse == (slope < 0)
    assert all(0.7 < one.coverage < 0.9 for one in found.periods)
    if slope > 0:
        assert all(one.auc_sign is not None and one.auc_sign > 0.55 for one in found.periods)


def test_rows_of_a_few_sweeps_are_no_evidence_however_many() -> None:
    """300 symbols that all moved against the forecast, in each of 19 blocks of 8 horizons of two sweeps."""
    time = np.repeat(np.arange(2 * 16 * 9 + 2) * 900_000, 300)
    up, quantile = np.full(len(time), 0.6), np.full(len(time), 0.01)
    given = (time, 0.9 - up, up, -quantile, quantile, np.full(len(time), -0.01))
    found = served_skill(*given, horizon_ms=1_800_000)
    assert (found.gain_interval, found.worse) == (None, False)
    assert found.gain is not None and found.gain < 0
    assert "fills 9 blocks of 8 horizons, 10 are needed" in found.words
    longer = np.repeat(np.arange(2 * 16 * 10) * 900_000, 300)
    many = [np.resize(column, len(longer)) for column in given[1:]]
    assert served_skill(longer, *many, horizon_ms=1_800_000).worse, "enough of them are"


def test_few_outcomes_say_nothing() -> None:
    few = LEAST_ROWS // 2
    half = np.full(few, 0.5)
    found = served_skill(np.arange(few), half, half, -half, half, half, horizon_ms=1)
    assert found.gain is None and not found.worse and f"{LEAST_ROWS} are needed" in found.words
