"""When a retraining is asked for, and with which settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import yaml

from assets.clock import record_clock
from assets.home import Home
from assets.retraining import (
    Due,
    NotDue,
    champion_forecaster,
    due_by_age,
    due_by_drift,
    retraining_config,
)
from assets.settings import current_settings
from kernels.catalogue import model_features
from kernels.compute import FeatureBlock
from kernels.feature_store import publish
from market.intervals import DAY_MS
from orchestration.defs.retraining import retrain_on_age, retrain_on_drift, retrain_weekly
from tests.models.conftest import World
from tests.training.conftest import INTERVAL, NAMES
from training.lifecycle.registry import use_model
from training.lifecycle.trials import record_trial

BARS_A_DAY = 288


@pytest.fixture
def at(home: Path, monkeypatch: pytest.MonkeyPatch):
    """Set the exchange's clock of this test's home to a day; the settings are those of a fresh home."""
    for name, value in {"HOME": str(home), "RETRAIN_AFTER_DAYS": "2", "DRIFT_DAYS": "1"}.items():
        monkeypatch.setenv(f"KLINECAST_{name}", value)
    monkeypatch.chdir(home)
    current_settings.cache_clear()
    yield lambda day: record_clock(home, int(day * DAY_MS), speed=0)
    current_settings.cache_clear()


@pytest.fixture
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def publish_features(world: World, bars: int, shift: float = 0.0) -> None:
    """Publish the first bars of the market's features, the last day of them moved by `shift` deviations."""
    values = world.market.block.values[:, :bars].copy()
    values[:, -BARS_A_DAY:] += shift * np.nanstd(values, axis=(1, 2), keepdims=True)
    block = world.market.block
    publish(FeatureBlock(values, block.names, block.open_time[:bars], block.symbols), INTERVAL, world.home)


def test_age_asks_once_until_something_is_trained_and_only_for_newer_bars(world, at) -> None:
    at(3)
    assert isinstance(due_by_age(Home()), NotDue), "there is nothing that could be old"
    publish_features(world, 700)
    version = world.publish("v1", 0.0, seen=600, created_at=int(2.1 * DAY_MS)).name
    at(4)
    young = due_by_age(Home())
    assert isinstance(young, NotDue)
    assert "1.9 days old; 2 days are allowed" in young.words
    for day in (4.2, 5.9, 6.2):
        at(day)
        due = due_by_age(Home())
        assert isinstance(due, Due)
        assert due.run_key == f"retrain:{version}:{int(2.1 * DAY_MS)}"
    assert isinstance(due_by_age(Home(), int(4.3 * DAY_MS)), NotDue), "it failed, but not two days ago"
    assert isinstance(due_by_age(Home(), int(4.1 * DAY_MS)), Due)
    record_trial(world.home, "half", kind="training", state="failed", at=int(4.3 * DAY_MS))
    begun = due_by_age(Home())
    assert isinstance(begun, NotDue)
    assert "is not yet 2 days old" in begun.words
    at(6.4)
    assert isinstance(due_by_age(Home()), Due)
    publish_features(world, 640)
    stale = due_by_age(Home())
    assert isinstance(stale, NotDue)
    assert "klinecast run make_features" in stale.words
    publish_features(world, 700)
    world.publish("v2", 0.0, created_at=6 * DAY_MS)
    assert isinstance(due_by_age(Home()), NotDue), "a newer one, champion or not, has had its chance"


def test_drift_asks_once_and_not_soon_after_a_decision(world, at) -> None:
    at(8)
    assert isinstance(due_by_drift(Home()), NotDue), "there is no champion"
    world.publish("v1", 0.0, seen=1800, names=NAMES)
    use_model(world.home, "v1", at=1, by="me")
    publish_features(world, 2400)
    same = due_by_drift(Home())
    assert isinstance(same, NotDue)
    assert "drifted" in same.words
    publish_features(world, 2400, shift=3.0)
    found = due_by_drift(Home())
    assert isinstance(found, Due)
    assert found.run_key == "retrain:v1:0"
    assert "no longer looks as in training" in found.words
    at(8.9)
    assert due_by_drift(Home()) == found
    publish_features(world, 1840, shift=3.0)
    assert isinstance(due_by_drift(Home()), NotDue), "bars that it has seen are no news"
    publish_features(world, 2400, shift=3.0)
    use_model(world.home, "v1", at=int(8.2 * DAY_MS), by="me")
    recent = due_by_drift(Home())
    assert isinstance(recent, NotDue)
    assert "KLINECAST_DRIFT_DAYS" in recent.words
    at(9.3)
    assert isinstance(due_by_drift(Home()), Due)


def test_one_retraining_is_asked_for_whoever_asks(world, at, dagster_instance) -> None:
    """Age and drift are due at once, and again at another span's beginning while the first run goes on."""
    world.publish("v1", 0.0, seen=1800, names=NAMES, created_at=5 * DAY_MS)
    use_model(world.home, "v1", at=1, by="me")
    publish_features(world, 2400, shift=3.0)
    instance = dagster_instance
    context = dg.build_sensor_context(instance)
    at(8.95)
    asked = [retrain_on_age(context), retrain_on_drift(context)]
    assert all(isinstance(found, dg.RunRequest) for found in asked)
    assert len({found.run_key for found in asked}) == 1
    sensors = (retrain_on_age, retrain_on_drift)

    def skipped(why: str) -> bool:
        found = [sensor(context) for sensor in sensors]
        return all(isinstance(s, dg.SkipReason) and why in (s.skip_message or "") for s in found)

    def run(status: dg.DagsterRunStatus) -> dg.DagsterRun:
        return dg.DagsterRun(job_name="train_and_export", tags=dict(asked[0].tags), status=status)

    going = instance.add_run(run(dg.DagsterRunStatus.STARTED))
    for day in (8.95, 9.01, 12.0):
        at(day)
        assert skipped("under way")
    weekly = retrain_weekly(dg.build_schedule_context(instance))
    assert isinstance(weekly, dg.SkipReason)
    instance.delete_run(going.run_id)
    instance.add_run(run(dg.DagsterRunStatus.FAILURE))
    at(9.01)
    assert skipped("is not yet")
    at(11.0)
    again = retrain_on_age(context)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != asked[0].run_key, "Dagster would take the former run for this one"
    assert isinstance(retrain_weekly(dg.build_schedule_context(instance)), dg.RunRequest)


def test_the_sensor_asks_with_a_key_and_says_why_it_does_not(world, at) -> None:
    instance = dg.DagsterInstance.ephemeral()
    quiet = retrain_on_age(dg.build_sensor_context(instance))
    assert isinstance(quiet, dg.SkipReason), "before the first ingest there is no clock"
    publish_features(world, 700)
    world.publish("v1", 0.0, seen=600, created_at=0)
    at(5)
    asked = retrain_on_age(dg.build_sensor_context(instance))
    assert isinstance(asked, dg.RunRequest)
    assert asked.run_key == "retrain:v1:0"


def test_a_retraining_has_the_champion_s_settings(world, at) -> None:
    assert retraining_config(world.home, warm_start=True) == {}, "without a champion: the defaults"
    names = tuple(name for name in model_features() if "hour" not in name and "day" not in name)
    bundle = world.publish("v1", 0.0, names=names)
    use_model(world.home, "v1", at=1, by="me")
    assert champion_forecaster(world.home) is None, "its bundle holds no weights"
    assert retraining_config(world.home, warm_start=True) == {}
    meta = json.loads((bundle / "manifest.json").read_text())
    world.keep_forecaster(bundle, names)
    found = retraining_config(world.home, warm_start=True)
    training_set = found["ops"]["training_set"]["config"]
    assert training_set["left_out_groups"] == ["clock"]
    assert training_set["intervals"] == [INTERVAL]
    assert (training_set["window"], training_set["horizon"]) == (meta["window"], meta["horizon"])
    assert found["ops"]["forecaster"]["config"] == {"warm_start": True}
    from orchestration.training_definitions import defs

    job = defs.resolve_job_def("train_and_export")
    dg.validate_run_config(job, yaml.safe_load(yaml.safe_dump(found)))
