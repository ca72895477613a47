"""Sensors: what happens when a run fails."""

import json
from datetime import UTC, datetime

import dagster as dg

from assets.settings import current_settings


@dg.run_failure_sensor(
    name="failure_log",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    monitor_all_code_locations=True,
    description="Append every failed run to failures.jsonl in KLINECAST_HOME, for whatever alerting reads it.",
)
def failure_log(context: dg.RunFailureSensorContext) -> None:
    """Record which run failed and why."""
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": context.dagster_run.job_name,
        "run_id": context.dagster_run.run_id,
        "message": context.failure_event.message,
    }
    with (current_settings().home / "failures.jsonl").open("a") as log:
        log.write(json.dumps(entry) + "\n")
