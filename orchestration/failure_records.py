"""Why runs failed, in words; and `failures.jsonl`, which has a line for each failed run, whatever ran it.

Runs of the command line write their own line, since a home need not have Dagster's daemon; those of the daemon are
written by its sensor, which finds the former there already.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterEvent, DagsterInstance

FILE = "failures.jsonl"
_LOOKED_BACK = 1 << 20
"""Bytes of the file in which a run's line is looked for: the sensor comes within a minute."""


def reasons_in(events: Iterable[DagsterEvent]) -> list[str]:
    """Say in words why a run failed, from its events: the explained message where there is one."""
    steps, checks = [], []
    for event in events:
        if event.is_step_failure:
            steps += _of_step(event)
        elif event.event_type_value == "ASSET_CHECK_EVALUATION":
            evaluation = event.asset_check_evaluation_data
            if not evaluation.passed and evaluation.blocking:
                summary = evaluation.metadata.get("summary")
                asset = evaluation.asset_key.to_user_string()
                checks.append(
                    f"check {evaluation.check_name} of {asset} failed"
                    + (f": {summary.value}" if summary is not None else "")
                    + f"\n  where: asset {asset}"
                    f"\n  do: klinecast up shows its figures: in the UI, asset {asset}, tab Checks"
                )
    return steps + checks


def _of_step(event: DagsterEvent) -> list[str]:
    data = event.step_failure_data
    if data.error is not None and data.error.cls_name == "DagsterAssetCheckFailedError":
        return []  # told with what the check says
    if data.user_failure_data is not None:
        return [str(data.user_failure_data.description)]
    return [f"{event.step_key} failed by a defect in klinecast:\n{data.error}"]


def record_failure(home: Path, instance: DagsterInstance, run_id: str) -> bool:
    """Append a failed run to `failures.jsonl` with its reasons, unless it stands there; tell whether it was appended.

    What cannot be written is left out: the failure itself is told anyway, and must not be hidden by another one.
    """
    run = instance.get_run_by_id(run_id)
    if run is None:
        return False
    events = [entry.dagster_event for entry in instance.all_logs(run_id) if entry.dagster_event is not None]
    ended = [event.message for event in events if event.is_failure and event.step_key is None]
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": run.job_name,
        "run_id": run_id,
        "message": ended[-1] if ended else None,
        "reasons": reasons_in(events),
    }
    with contextlib.suppress(OSError):
        return _append_once(home / FILE, run_id, json.dumps(entry))
    return False


def _append_once(path: Path, run_id: str, line: str) -> bool:
    """Append a line unless the end of the file holds one of that run; processes take turns."""
    with path.open("a+b") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - _LOOKED_BACK))
        if f'"run_id": "{run_id}"'.encode() in log.read():
            return False
        log.write(line.encode() + b"\n")
    return True
