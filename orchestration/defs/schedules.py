"""Schedules: off until someone switches them on in the UI."""

import dagster as dg

from orchestration.defs.jobs import INGEST, MAKE_FEATURES, PREDICTION_SWEEP, VERIFY

INGEST_SCHEDULE = dg.ScheduleDefinition(
    name="ingest_every_minute",
    job=INGEST,
    cron_schedule="* * * * *",
    execution_timezone="UTC",
    # Every bar was judged when it came: once a minute the recent ones are enough; a run by hand reads them all again.
    run_config={"ops": {"klines_checks": {"config": {"days": 3}}}},
    description="Fetch the bars that closed since the last minute.",
)

FEATURES_SCHEDULE = dg.ScheduleDefinition(
    name="features_every_day",
    job=MAKE_FEATURES,
    cron_schedule="0 2 * * *",
    execution_timezone="UTC",
    description="Compute the features of all stored bars, which retrainings and drift are judged on.",
)

VERIFY_SCHEDULE = dg.ScheduleDefinition(
    name="verify_every_week",
    job=VERIFY,
    cron_schedule="0 3 * * 0",
    execution_timezone="UTC",
    description="Read all that is stored: a bit that a disk has changed shows nowhere else.",
)

SWEEP_SCHEDULE = dg.ScheduleDefinition(
    name="sweep_every_minute",
    job=PREDICTION_SWEEP,
    cron_schedule="* * * * *",
    execution_timezone="UTC",
    description="Predict each newly closed bar of the model's interval; a sweep without a new bar changes nothing.",
)
