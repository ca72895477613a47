"""The definitions: what is in the graph, and what loading it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from assets.forecaster_runs import note_use, run_folder
from assets.metadata import column_schema
from assets.model_state import training_set_folder
from assets.training_set import _unfinished
from kernels.compute import FeatureBlock
from market.klines import MEANINGS as KLINE_MEANINGS
from market.klines import STORED_SCHEMA
from market.store import PREDICTION_SCHEMA
from market.store.tables import PREDICTION_MEANINGS
from market.universe import MEANINGS as UNIVERSE_MEANINGS
from market.universe import UNIVERSE_SCHEMA
from orchestration import definitions, training_definitions
from orchestration.graph import all_specs
from tests.conftest import REPOSITORY
from tests.training.conftest import INTERVAL, plant
from training.config import ForecasterConfig
from training.data.dataset import build_training_set
from training.fitting.checkpoint import CHECKPOINT_FILE, DIVERGED_FILE

PACKAGES = ("assets", "kernels", "market", "orchestration", "serving", "training")
LOCATIONS = {"platform": definitions.defs, "training": training_definitions.defs}

# The graph as it is meant to be: a change of it is a decision, and is made here too.
GRAPH = {
    "universe": set(),
    "klines": {"universe"},
    "features": {"klines"},
    "anomalies": {"klines", "features"},
    "training_set": {"features"},
    "forecaster": {"training_set"},
    "judgement": {"forecaster"},
    "onnx_model": {"forecaster"},
    "tflite_model": {"onnx_model"},
    "champion": {"judgement", "onnx_model", "tflite_model"},
    "architecture_search": {"training_set"},
    "predictions": {"klines", "champion"},
    "drift": {"features", "champion"},
}


@pytest.mark.parametrize(
    ("schema", "meanings"),
    [
        (STORED_SCHEMA, KLINE_MEANINGS),
        (UNIVERSE_SCHEMA, UNIVERSE_MEANINGS),
        (PREDICTION_SCHEMA, PREDICTION_MEANINGS),
    ],
    ids=["klines", "universe", "predictions"],
)
def test_every_column_says_what_it_holds(schema: pl.Schema, meanings: dict[str, str]) -> None:
    assert meanings.keys() == schema.keys()
    columns = column_schema(schema, meanings).columns
    assert [column.name for column in columns] == schema.names() and all(
        column.description for column in columns
    )


def test_what_is_imported_is_declared() -> None:
    """What another package happens to bring along may be gone with its next version."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["jax"]]
    names = {canonicalize_name(Requirement(line).name) for line in declared}
    found = packages_distributions()
    lacking = {
        module
        for package in PACKAGES
        for module in _imported(REPOSITORY / package)
        if module in found and not names & {canonicalize_name(name) for name in found[module]}
    }
    assert lacking - set(PACKAGES) == set()


def _imported(folder: Path) -> set[str]:
    """Return the top-level names of the modules that the code in a folder imports."""
    modules: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    return modules


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
    assert {
        "ingest",
        "make_features",
        "prediction_sweep",
        "train_and_export",
        "search",
        "watch_drift",
        "verify",
    } <= jobs
    schedules = [schedule for defs in LOCATIONS.values() for schedule in defs.schedules or []]
    names = {
        "ingest_every_minute",
        "features_every_day",
        "sweep_every_minute",
        "verify_every_week",
        "retrain_weekly",
    }
    assert {schedule.name for schedule in schedules} == names
    assert all(schedule.default_status == dg.DefaultScheduleStatus.STOPPED for schedule in schedules)
    sensors = {sensor.name: sensor for defs in LOCATIONS.values() for sensor in defs.sensors or []}
    assert set(sensors) == {"failure_log", "retrain_on_age", "retrain_on_drift"}
    assert sensors["retrain_on_age"].default_status == dg.DefaultSensorStatus.STOPPED
    assert sensors["retrain_on_drift"].default_status == dg.DefaultSensorStatus.STOPPED


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
    checks = {
        *("no_duplicates", "in_order", "sane_prices", "known_gaps", "fresh", "intervals_agree"),
        "complete",
        "intact",
    }
    assert {("klines", name) for name in checks} <= names
    controls = {
        "shuffled_labels_give_no_skill",
        "random_walk_gives_no_skill",
        "planted_signal_is_found",
    }
    assert {("forecaster", name) for name in controls} <= names
    assert ("onnx_model", "onnx_answers_as_keras") in names
    assert ("tflite_model", "tflite_answers_as_keras") in names
    quantised = {
        ("onnx_model", "onnx_int8"),
        ("tflite_model", "tflite_dynamic"),
        ("tflite_model", "tflite_int8"),
    }
    assert {(asset, f"{form}_agrees_with_keras") for asset, form in quantised} <= names


def test_a_training_set_of_an_older_format_is_built_anew(tmp_path: Path) -> None:
    """It must not stand in the way of the asset that replaces it."""
    folder = training_set_folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"format_version": 1}')
    assert _unfinished(tmp_path, ForecasterConfig(), "5m", plant(600, 2, strength=0.0).block) is None


def test_the_set_of_an_unfinished_training_is_kept_while_there_are_no_other_bars(tmp_path: Path) -> None:
    config, market = ForecasterConfig(window=8, horizon=3), plant(620, 2, strength=0.0)

    def bars(first: int, stop: int) -> FeatureBlock:
        block = market.block
        return replace(block, values=block.values[:, first:stop], open_time=block.open_time[first:stop])

    folder = training_set_folder(tmp_path)
    data = build_training_set(bars(10, 600), market.close[10:600], INTERVAL, config, folder)
    work = run_folder(tmp_path, "a run")
    assert _unfinished(tmp_path, config, INTERVAL, bars(10, 600)) is None, "nothing was begun"
    note_use(work, data)
    assert _unfinished(tmp_path, config, INTERVAL, bars(10, 600)) is None, "there is nothing to go on from"
    (work / CHECKPOINT_FILE).touch()
    kept = _unfinished(tmp_path, config, INTERVAL, bars(10, 600))
    assert kept is not None and kept.manifest == data.manifest
    for others in (bars(10, 620), bars(0, 600), bars(10, 590)):
        assert _unfinished(tmp_path, config, INTERVAL, others) is None
    (work / DIVERGED_FILE).touch()
    assert _unfinished(tmp_path, config, INTERVAL, bars(10, 600)) is None, "it would diverge again"
