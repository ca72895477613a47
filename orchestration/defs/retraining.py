"""Retraining: on a schedule, on age and on drift; all off until someone switches them on in the UI."""

from collections.abc import Callable

import dagster as dg

from assets.errors import AssetError
from assets.home import Home
from assets.retraining import Due, NotDue, due_by_age, due_by_drift, retraining_config
from orchestration.defs.jobs import TRAIN_AND_EXPORT

_HOURLY = 3_600
_WHY_TAG = "klinecast/retraining"
_ASKED_AT_TAG = "klinecast/retraining_asked_at"
"""By the exchange's clock, ms since epoch."""

_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def _run_config(home: Home) -> dict[str, object]:
    return retraining_config(home.settings.home, warm_start=home.settings.retrain_warm)


@dg.schedule(
    name="retrain_weekly",
    job=TRAIN_AND_EXPORT,
    cron_schedule="0 3 * * 0",
    execution_timezone="UTC",
    description="Train the champion again as it is, on the newest features, and let it challenge itself.",
)
def retrain_weekly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask for a retraining, whatever has happened since the last one, unless one is under way."""
    if (busy := _under_way(context.instance)) is not None:
        return dg.SkipReason(busy)
    return dg.RunRequest(run_config=_run_config(Home()), tags={_WHY_TAG: "schedule"})


@dg.sensor(
    name="retrain_on_age",
    job=TRAIN_AND_EXPORT,
    minimum_interval_seconds=_HOURLY,
    description="Ask for one retraining when the newest model is older than KLINECAST_RETRAIN_AFTER_DAYS.",
)
def retrain_on_age(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask once, and again only when that long after it nothing newer has come of it."""
    return _asked(context.instance, "age", due_by_age)


@dg.sensor(
    name="retrain_on_drift",
    job=TRAIN_AND_EXPORT,
    minimum_interval_seconds=_HOURLY,
    description="Ask for one retraining when the newest features no longer look like those the champion learned from.",
)
def retrain_on_drift(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask once, and again at the earliest KLINECAST_DRIFT_DAYS after that or a decision about the champion."""
    return _asked(context.instance, "drift", due_by_drift)


def _asked(
    instance: dg.DagsterInstance, why: str, judge: Callable[[Home, int | None], Due | NotDue]
) -> dg.RunRequest | dg.SkipReason:
    """Turn a verdict into a request.

    Dagster holds a run key only against runs of the same sensor. The sensors are evaluated one after the other, each
    one's run being there before the next is: a look at the runs keeps one from asking for what the other has got.
    """
    if (busy := _under_way(instance)) is not None:
        return dg.SkipReason(busy)
    home = Home()
    try:
        found, now = judge(home, _asked_at(instance)), home.now_ms()
    except AssetError as error:  # before the first ingest there is no clock, and nothing to do
        return dg.SkipReason(error.what)
    if isinstance(found, NotDue):
        return dg.SkipReason(found.words)
    tags = {_WHY_TAG: why, _ASKED_AT_TAG: str(now)}
    return dg.RunRequest(run_key=found.run_key, run_config=_run_config(home), tags=tags)


def _under_way(instance: dg.DagsterInstance) -> str | None:
    """Say that such a run is queued or running; None if there is none."""
    found = instance.get_runs(dg.RunsFilter(job_name=TRAIN_AND_EXPORT.name, statuses=_UNDER_WAY), limit=1)
    return f"train_and_export is under way already: run {found[0].run_id}" if found else None


def _asked_at(instance: dg.DagsterInstance) -> int | None:
    """Return when a sensor last got a run, whatever became of it."""
    mine = dg.RunsFilter(job_name=TRAIN_AND_EXPORT.name, tags={_WHY_TAG: ["age", "drift"]})
    asked = [run.tags.get(_ASKED_AT_TAG, "0") for run in instance.get_runs(mine, limit=1)]
    return int(asked[0]) if asked else None


RETRAINING_SCHEDULES = [retrain_weekly]
RETRAINING_SENSORS = [retrain_on_age, retrain_on_drift]
