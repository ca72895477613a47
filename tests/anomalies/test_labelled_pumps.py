"""The 18 labelled pumps of 2020: found at once, at a bearable price in false alarms."""

from __future__ import annotations

import pytest

from benchmarks.anomalies import MINUTE, PAST_HOURS, START, evaluate, load_events
from training.anomalies import detect_anomalies


@pytest.fixture(scope="module")
def judged(shared_data):
    panel, announced = load_events(shared_data)
    flags = detect_anomalies(panel, fit_until=START + PAST_HOURS * 60 * MINUTE, created_at=0)
    return evaluate(flags, panel, announced, within=5)


def test_most_pumps_are_found_within_five_minutes(judged) -> None:
    assert judged["two_or_more"]["events"] == 18
    assert judged["two_or_more"]["found"] >= 15
    assert judged["two_or_more"]["median_delay_minutes"] <= 1
    assert judged["isolation_forest"]["found"] >= 13
    assert judged["planted_forest"]["found"] >= 11
    assert judged["robust_z_return"]["found"] >= 12


def test_false_alarms_stay_rare(judged) -> None:
    """Thinly traded coins move by themselves: about one episode a day is called false."""
    assert judged["two_or_more"]["false_alarm_episodes_per_symbol_day"] < 1.5
    for name in ("isolation_forest", "planted_forest", "robust_z_return", "robust_z_range"):
        assert judged[name]["false_alarm_episodes_per_symbol_day"] < 2, name
