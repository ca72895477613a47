"""Retraining: on a schedule, on age and on drift; all off until someone switches them on in the UI."""

from collections.abc import Callable

import dagster as dg

from assets.errors import AssetError
from assets.home import Home
from assets.retraining import Due, NotDue, due_by_age, due_by_drift, retraining_config
from orchestration.defs.jobs import TRAIN_AND_EXPORT

_HOURLY = 3_600
_WHY_TAG = "klinecast/retraining"


def _run_config(home: Home) -> dict[str, object]:
    return retraining_config(home.settings.home, warm_start=home.settings.retrain_warm)


@dg.schedule(
    name="retrain_weekly",
    job=TRAIN_AND_EXPORT,
    cron_schedule="0 3 * * 0",
    execution_timezone="UTC",
    description="Train the champion again as it is, on the newest features, and let it challenge itself.",
)
def retrain_weekly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Ask for a retraining, whatever has happened since the last one."""
    return dg.RunRequest(run_config=_run_config(Home()), tags={_WHY_TAG: "schedule"})


@dg.sensor(
    name="retrain_on_age",
    job=TRAIN_AND_EXPORT,
    minimum_interval_seconds=_HOURLY,
    description="Ask for one retraining when the newest model is older than KLINECAST_RETRAIN_AFTER_DAYS.",
)
def retrain_on_age(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask once for each model and each span of that length."""
    return _asked("age", due_by_age)


@dg.sensor(
    name="retrain_on_drift",
    job=TRAIN_AND_EXPORT,
    minimum_interval_seconds=_HOURLY,
    description="Ask for one retraining when the newest features no longer look like those the champion learned from.",
)
def retrain_on_drift(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask once for each champion and each span of KLINECAST_DRIFT_DAYS."""
    return _asked("drift", due_by_drift)


def _asked(why: str, judge: Callable[[Home], Due | NotDue]) -> dg.RunRequest | dg.SkipReason:
    """Turn a verdict into a request; Dagster starts at most one run of a run key."""
    home = Home()
    try:
        found = judge(home)
    except AssetError as error:  # before the first ingest there is no clock, and nothing to do
        return dg.SkipReason(error.what)
    if isinstance(found, NotDue):
        return dg.SkipReason(found.words)
    return dg.RunRequest(run_key=found.run_key, run_config=_run_config(home), tags={_WHY_TAG: why})


RETRAINING_SCHEDULES = [retrain_weekly]
RETRAINING_SENSORS = [retrain_on_age, retrain_on_drift]
