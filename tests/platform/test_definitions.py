"""The definitions: what is in the graph, and what loading it costs."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from orchestration import definitions, training_definitions
from orchestration.graph import all_specs

LOCATIONS = {"platform": definitions.defs, "training": training_definitions.defs}

# The graph as it is meant to be: a change of it is a decision, and is made here too.
GRAPH = {
    "universe": set(),
    "klines": {"universe"},
    "features": {"klines"},
    "anomalies": {"klines", "features"},
    "training_set": {"features"},
    "forecaster": {"training_set"},
    "onnx_model": {"forecaster"},
    "tflite_model": {"forecaster"},
    "predictions": {"klines", "onnx_model"},
}


def test_the_graph_is_the_one_that_was_decided() -> None:
    found = {
        spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps}
        for spec in all_specs()
    }
    assert found == GRAPH


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.key.to_user_string())
def test_every_asset_says_what_it_is(spec: dg.AssetSpec) -> None:
    assert spec.description
    assert spec.group_name != "default"
    assert spec.kinds
    assert spec.code_version
    assert spec.owners
    assert spec.freshness_policy is not None


def test_jobs_and_schedules() -> None:
    jobs = {job.name for defs in LOCATIONS.values() for job in defs.resolve_all_job_defs()}
    assert {"ingest", "make_features", "prediction_sweep", "train_and_export"} <= jobs
    schedules = definitions.defs.schedules or []
    assert {schedule.name for schedule in schedules} == {"ingest_every_minute", "sweep_every_minute"}
    assert all(schedule.default_status == dg.DefaultScheduleStatus.STOPPED for schedule in schedules)


def test_the_platform_location_loads_neither_tensorflow_nor_what_a_sweep_does_not_need() -> None:
    heavy = ("tensorflow", "keras", "tf2onnx", "sklearn", "aiohttp", "matplotlib", "ccxt", "talib", "pandas")
    code = (
        "import sys, orchestration.definitions;"
        f"print(','.join(name for name in {heavy!r} if name in sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""


def test_a_checked_asset_has_checks() -> None:
    names = {
        (key.asset_key.to_user_string(), key.name)
        for defs in LOCATIONS.values()
        for key in defs.resolve_asset_graph().asset_check_keys
    }
    checks = {"no_duplicates", "in_order", "sane_prices", "known_gaps", "fresh", "intervals_agree"}
    assert {("klines", name) for name in checks} <= names
    assert ("onnx_model", "onnx_answers_as_keras") in names
    assert ("tflite_model", "tflite_answers_as_keras") in names
