"""Sensors: what happens when a run fails."""

import dagster as dg

from assets.settings import current_settings
from orchestration.failure_records import record_failure


@dg.run_failure_sensor(
    name="failure_log",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    monitor_all_code_locations=True,
    description="Append every failed run to failures.jsonl in KLINECAST_HOME, for whatever alerting reads it.",
)
def failure_log(context: dg.RunFailureSensorContext) -> None:
    """Record which run failed and why."""
    record_failure(current_settings().home, context.instance, context.dagster_run.run_id)
