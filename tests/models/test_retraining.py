"""When a retraining is asked for, and with which settings."""

from __future__ import annotations

import json
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
from orchestration.defs.retraining import retrain_on_age
from tests.models.conftest import World
from tests.training.conftest import INTERVAL, NAMES
from training.lifecycle.registry import use_model

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


def publish_features(world: World, bars: int, shift: float = 0.0) -> None:
    """Publish the first bars of the market's features, the last day of them moved by `shift` deviations."""
    values = world.market.block.values[:, :bars].copy()
    values[:, -BARS_A_DAY:] += shift * np.nanstd(values, axis=(1, 2), keepdims=True)
    block = world.market.block
    publish(FeatureBlock(values, block.names, block.open_time[:bars], block.symbols), INTERVAL, world.home)


def test_age_asks_once_a_span_and_only_for_newer_bars(world, at) -> None:
    at(3)
    assert isinstance(due_by_age(Home()), NotDue), "there is nothing that could be old"
    publish_features(world, 700)
    version = world.publish("v1", 0.0, seen=600, created_at=int(2.1 * DAY_MS)).name
    at(4)
    young = due_by_age(Home())
    assert isinstance(young, NotDue)
    assert "1.9 days old; 2 days are allowed" in young.words
    keys = []
    for day in (4.2, 5.9, 6.2):
        at(day)
        due = due_by_age(Home())
        assert isinstance(due, Due)
        keys.append(due.run_key)
    assert keys == [f"age:{version}:1", f"age:{version}:1", f"age:{version}:2"]
    publish_features(world, 640)
    stale = due_by_age(Home())
    assert isinstance(stale, NotDue)
    assert "klinecast run make_features" in stale.words
    publish_features(world, 700)
    world.publish("v2", 0.0, created_at=6 * DAY_MS)
    assert isinstance(due_by_age(Home()), NotDue), "a newer one, champion or not, has had its chance"


def test_drift_asks_once_a_champion_and_span(world, at) -> None:
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
    assert found.run_key == "drift:v1:8"
    assert "no longer looks as in training" in found.words
    at(8.9)
    assert due_by_drift(Home()) == found
    publish_features(world, 1840, shift=3.0)
    assert isinstance(due_by_drift(Home()), NotDue), "bars that it has seen are no news"


def test_the_sensor_asks_with_a_key_and_says_why_it_does_not(world, at) -> None:
    instance = dg.DagsterInstance.ephemeral()
    quiet = retrain_on_age(dg.build_sensor_context(instance))
    assert isinstance(quiet, dg.SkipReason), "before the first ingest there is no clock"
    publish_features(world, 700)
    world.publish("v1", 0.0, seen=600, created_at=0)
    at(5)
    asked = retrain_on_age(dg.build_sensor_context(instance))
    assert isinstance(asked, dg.RunRequest)
    assert asked.run_key == "age:v1:2"


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
