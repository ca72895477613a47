"""Runs whose process was killed: the next run neither waits for them nor leaves them in the list as running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets.settings import current_settings, load_settings
from orchestration.cli.run import failures_of
from orchestration.definitions import defs
from orchestration.defs.sensors import failure_log
from orchestration.failure_records import FILE, reasons_in, record_failure
from orchestration.instance import dagster_home, open_instance
from orchestration.left_runs import end_left_runs, wait_for_places
from tests.conftest import REPOSITORY

POOL = "exchange_api"

HOLDER = """
import sys
from assets.settings import load_settings
from orchestration.definitions import defs
from orchestration.instance import dagster_home, open_instance
from orchestration.left_runs import tagged_as_alive
settings = load_settings()
with open_instance(settings) as instance, tagged_as_alive(dagster_home(settings) / "processes") as tags:
    run = instance.create_run_for_job(defs.resolve_job_def("ingest"), tags=tags)
    instance.event_log_storage.claim_concurrency_slot("exchange_api", run.run_id, "klines")
    print(run.run_id, flush=True)
    sys.stdin.read()
    instance.report_run_failed(run, "ended")
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
"""


@pytest.fixture
def instance(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("KLINECAST_HOME", str(home))
    with open_instance(load_settings()) as opened:
        opened.event_log_storage.initialize_concurrency_limit_to_default(POOL)
        yield opened


@pytest.fixture
def holder(instance: dg.DagsterInstance) -> Iterator[tuple[subprocess.Popen, str]]:
    """Give a process that holds the only place in the pool, and the id of its run."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert child.stdout is not None
    yield child, child.stdout.readline().strip()
    child.kill()
    child.wait()


def holders(instance: dg.DagsterInstance) -> set[str]:
    return instance.event_log_storage.get_concurrency_info(POOL).active_run_ids


def test_a_run_that_was_killed_is_ended_and_gives_its_place_back(
    instance: dg.DagsterInstance, holder: tuple[subprocess.Popen, str]
) -> None:
    child, run_id = holder
    marks = dagster_home(load_settings()) / "processes"
    assert end_left_runs(instance, marks) == [], "it lives"
    assert holders(instance) == {run_id}
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert end_left_runs(instance, marks) == [run_id]
    run = instance.get_run_by_id(run_id)
    assert run is not None and run.status is dg.DagsterRunStatus.FAILURE
    assert record_failure(load_settings().home, instance, run_id)
    (line,) = (load_settings().home / FILE).read_text().splitlines()
    assert json.loads(line)["job"] == "ingest" and "ended without a word" in json.loads(line)["message"]
    assert holders(instance) == set() and list(marks.iterdir()) == []
    wait_for_places(instance, defs.resolve_job_def("ingest"), pytest.fail)


def test_a_failed_run_is_recorded_once_whoever_comes_first(instance: dg.DagsterInstance, home: Path) -> None:
    current_settings.cache_clear()
    result = defs.resolve_job_def("prediction_sweep").execute_in_process(
        instance=instance, raise_on_error=False
    )
    assert not result.success and reasons_in(result.all_events) == failures_of(result) != []
    context = dg.build_run_status_sensor_context(
        sensor_name="failure_log",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(),
    )
    failure_log(context.for_run_failure())
    assert not record_failure(home, instance, result.run_id), "the sensor has done so"
    (line,) = (home / FILE).read_text().splitlines()
    assert json.loads(line)["reasons"] == failures_of(result)
    (home / FILE).unlink()
    (home / FILE).mkdir()
    assert not record_failure(home, instance, result.run_id), "what cannot be written hides nothing"
    current_settings.cache_clear()


def test_a_failed_check_says_where_more_is_to_be_seen(instance: dg.DagsterInstance) -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("sound", asset="made", blocking=True)])
    def made() -> dg.MaterializeResult:
        judged = dg.AssetCheckResult(passed=False, metadata={"summary": "12% found"})
        return dg.MaterializeResult(check_results=[judged])

    result = dg.materialize([made], instance=instance, raise_on_error=False)
    assert failures_of(result) == [
        "check sound of made failed: 12% found\n  where: asset made\n"
        "  do: klinecast up shows its figures: in the UI, asset made, tab Checks"
    ]


def test_a_run_that_lives_is_waited_for_and_named(
    instance: dg.DagsterInstance, holder: tuple[subprocess.Popen, str]
) -> None:
    child, run_id = holder
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        assert child.stdin is not None
        child.stdin.close()  # now it ends

    wait_for_places(instance, defs.resolve_job_def("ingest"), hear)
    assert len(said) == 1 and run_id[:8] in said[0] and POOL in said[0]
    wait_for_places(instance, defs.resolve_job_def("make_features"), pytest.fail)


def test_a_place_of_a_run_that_has_ended_is_given_back(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(defs.resolve_job_def("ingest"))
    instance.event_log_storage.claim_concurrency_slot(POOL, run.run_id, "klines")
    instance.report_run_failed(run, "it failed, and the daemon was not there")
    assert end_left_runs(instance, dagster_home(load_settings()) / "processes") == []
    assert holders(instance) == set()
