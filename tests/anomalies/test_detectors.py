"""Detectors: what they find, what they must not look at, and that they repeat themselves."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from market.store import FLAG_SCHEMA, KlineStore
from training.anomalies import DETECTORS, AnomalyConfig, AnomalyError, detect_anomalies
from training.anomalies.plants import ONSET, PATTERNS, plant
from training.anomalies.statistics import PastWindow, baselines

MINUTE = 60_000
PAST = 2_800
SMALL = AnomalyConfig(window=360, most_rows=3_000, most_plants=150)


def detect(panel, **options):
    fit_until = int(panel.open_time[PAST])
    return detect_anomalies(panel, **({"fit_until": fit_until, "created_at": 77, "config": SMALL} | options))


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def pump(columns) -> None:
    """10 % within a bar on forty times the volume, bought by takers."""
    columns["close"][3_500:, 1] *= 1.1
    columns["open"][3_501:, 1] *= 1.1
    columns["high"][3_500:, 1] *= 1.1
    columns["low"][3_501:, 1] *= 1.1
    columns["volume"][3_500, 1] = 400.0
    columns["trades"][3_500, 1] = 2_000.0
    columns["taker_buy_base"][3_500, 1] = 330.0


def volume_spike(columns) -> None:
    for name in ("volume", "trades", "taker_buy_base"):
        columns[name][3_200, 2] *= 100


def flash_crash(columns) -> None:
    columns["low"][3_300, 0] *= 0.9
    columns["close"][3_300, 0] *= 0.97
    columns["open"][3_301, 0] *= 0.97
    columns["low"][3_301, 0] *= 0.97
    columns["volume"][3_300, 0] = 400.0
    columns["trades"][3_300, 0] = 2_000.0


@pytest.mark.parametrize(
    ("happening", "row", "symbol", "finders"),
    [
        (pump, 3_500, 1, set(DETECTORS)),
        (
            volume_spike,
            3_200,
            2,
            {"robust_z_volume", "robust_z_trades", "planted_forest"},
        ),
        (flash_crash, 3_300, 0, set(DETECTORS)),
    ],
)
def test_what_happened_is_found_by_those_who_can_see_it(
    market, changed, happening, row, symbol, finders
) -> None:
    before = detect(market).frame
    frame = detect(changed(market, happening)).frame
    at = (frame["open_time"] == market.open_time[row]) & (frame["symbol"] == market.symbols[symbol])
    assert finders <= set(frame.filter(at)["detector"])
    at = (before["open_time"] == market.open_time[row]) & (before["symbol"] == market.symbols[symbol])
    assert before.filter(at).is_empty(), "without it there is nothing to find"


def test_a_quiet_market_is_flagged_at_about_the_calibrated_rate(market) -> None:
    frame = detect(market).frame
    judged = (len(market.open_time) - PAST) * len(market.symbols)
    for name in DETECTORS:
        flagged = frame.filter(frame["detector"] == name).height
        assert flagged <= 6 * SMALL.alarm_rate * judged, name


def test_flags_are_what_the_store_takes(market, changed, tmp_path) -> None:
    flags = detect(changed(market, pump))
    assert flags.frame.schema == FLAG_SCHEMA
    assert flags.frame["created_at"].unique().to_list() == [77]
    assert flags.frame["kline_interval"].unique().to_list() == ["1m"]
    for symbol, _, time, detector, score, _ in flags.frame.iter_rows():
        row = int((time - market.open_time[0]) // MINUTE)
        assert row >= PAST
        assert (
            score == flags.scores[detector][row, market.symbols.index(symbol)] >= flags.thresholds[detector]
        )
    with KlineStore.open(tmp_path) as store:
        assert store.write_flags(flags.frame).rows_inserted == flags.frame.height


def test_the_future_changes_no_score(market, changed) -> None:
    row = 3_400

    def later(columns) -> None:
        for values in columns.values():
            values[row + 1 :] = values[row + 1 :][::-1] * 3
        columns["trades"][3_600:, 1] = np.nan

    before, after = detect(market), detect(changed(market, later))
    assert before.thresholds == after.thresholds
    for name in DETECTORS:
        assert same(before.scores[name][: row + 1], after.scores[name][: row + 1]), name
        assert not same(before.scores[name][row + 1 :], after.scores[name][row + 1 :]), name


def test_forests_do_not_judge_the_past_that_they_were_fitted_on(market) -> None:
    flags = detect(market)
    for name in ("isolation_forest", "planted_forest"):
        assert np.isnan(flags.scores[name][:PAST]).all()
        assert np.isfinite(flags.scores[name][PAST:]).all()
    assert flags.frame["open_time"].min() >= flags.fit_until


def test_a_seed_gives_the_same_bits_and_another_gives_others(market) -> None:
    one, again, other = detect(market, seed=3), detect(market, seed=3), detect(market, seed=4)
    assert one.frame.equals(again.frame)
    assert all(same(one.scores[name], again.scores[name]) for name in DETECTORS)
    assert not same(one.scores["planted_forest"], other.scores["planted_forest"])
    assert same(one.scores["robust_z_return"], other.scores["robust_z_return"])


def test_missing_bars_are_not_judged_and_the_rest_is(market, changed) -> None:
    def outage(columns) -> None:
        for values in columns.values():
            values[3_000:3_050, 1] = np.nan
            values[:, 3] = np.nan

    flags = detect(changed(market, outage))
    for name in DETECTORS:
        assert np.isnan(flags.scores[name][3_000:3_050, 1]).all()
        assert np.isnan(flags.scores[name][:, 3]).all()
        assert np.isfinite(flags.scores[name][3_060:, 1]).all()


def test_bars_without_trades_and_takers_will_do(market, changed) -> None:
    def plain(columns) -> None:
        del columns["taker_buy_base"]
        columns["trades"][:] = np.nan

    flags = detect(changed(changed(market, plain), lambda c: c["volume"].__setitem__((3_500, 1), 900.0)))
    assert set(flags.scores) == set(DETECTORS) - {"robust_z_trades"}
    assert flags.frame.filter(flags.frame["open_time"] == market.open_time[3_500]).height >= 2


def test_too_little_past_is_told(market) -> None:
    with pytest.raises(AnomalyError, match="too little past") as caught:
        detect(market, fit_until=int(market.open_time[130]))
    assert "fit_until" in caught.value.where
    del market.columns["volume"]
    with pytest.raises(AnomalyError, match="volume"):
        detect(market)


def test_planted_bars_are_sound_and_labelled_where_they_were_planted(market) -> None:
    usual = baselines(market, market.columns, PastWindow(360, 15, 120))
    planted, labels = plant(market.columns, usual, PAST, 100, np.random.default_rng(5))
    touched = planted["close"] != market.columns["close"][:PAST]
    touched |= planted["volume"] != market.columns["volume"][:PAST]
    assert not touched[labels == 0].any()
    assert len(PATTERNS) <= (labels == ONSET).sum() <= 5 * 100
    body = np.stack([planted["open"], planted["close"]])
    assert (planted["high"] >= body.max(axis=0) * (1 - 1e-12)).all()
    assert (planted["low"] <= body.min(axis=0) * (1 + 1e-12)).all()
    assert (planted["taker_buy_base"] <= planted["volume"]).all()
    assert (planted["volume"] >= market.columns["volume"][:PAST]).all()


def test_nothing_here_needs_tensorflow_or_pickle() -> None:
    code = "import training.anomalies, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"tensorflow", "keras", "dagster"} & set(loaded)
    assert "sklearn" in loaded
