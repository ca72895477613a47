"""Runs of the command line whose process is gone: killed, or the machine went down.

Dagster's daemon notices such runs, but a home need not have one. Their records say that they go on, and their places in
pools stay taken: the next run would wait for them for ever, at full speed and without a word.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.alive import is_gone, marked_as_alive
from assets.interrupts import interrupted

if TYPE_CHECKING:
    from dagster import DagsterInstance

STARTED_FROM = "klinecast/started_from"
COMMAND_LINE = "command line"
_PROCESS = "klinecast/process"
_TOLD_EVERY_S = 10.0


@contextmanager
def tagged_as_alive(folder: Path) -> Iterator[dict[str, str]]:
    """Give the tags of a run in this process, which is known to live while this lasts."""
    from dagster._core.storage.tags import MAX_RETRIES_TAG

    with marked_as_alive(folder) as process:
        # Who killed a command does not want the daemon to start it anew.
        yield {STARTED_FROM: COMMAND_LINE, _PROCESS: process, MAX_RETRIES_TAG: "0"}


def end_left_runs(instance: DagsterInstance, folder: Path) -> list[str]:
    """Record runs that a process of this machine has left as failed, and give back their places in pools.

    Returns
    -------
    list of str
        Ids of those runs.
    """
    from dagster import RunsFilter
    from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

    running = RunsFilter(statuses=list(NOT_FINISHED_STATUSES), tags={STARTED_FROM: COMMAND_LINE})
    left = [run for run in instance.get_runs(running) if is_gone(run.tags.get(_PROCESS, ""), folder)]
    for run in left:
        instance.report_run_failed(
            run, "its process has ended without a word: killed, or the machine went down"
        )
    for run_id in {*(run.run_id for run in left), *_ended_holders(instance)}:
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    return [run.run_id for run in left]


def _ended_holders(instance: DagsterInstance) -> set[str]:
    """Return the runs that hold places in pools although they have ended."""
    storage = instance.event_log_storage
    holders = {
        run_id
        for pool in storage.get_concurrency_keys()
        for run_id in _holders(storage.get_concurrency_info(pool))
    }
    runs = {run_id: instance.get_run_by_id(run_id) for run_id in holders}
    return {run_id for run_id, run in runs.items() if run is None or run.is_finished}


def _holders(info: Any) -> set[str]:
    return {*info.active_run_ids, *info.assigned_run_ids, *info.pending_run_ids}


def wait_for_places(instance: DagsterInstance, definition: Any, say: Callable[[str], None]) -> None:
    """Wait until no other run holds a place that a job needs, and say for which one it is waited.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C while waiting.
    """
    pools = {pool for node in definition.graph.nodes for pool in getattr(node.definition, "pools", ())}
    told = 0.0
    while taken := [
        (pool, sorted(holders)) for pool in sorted(pools) if (holders := _takers(instance, pool))
    ]:
        if interrupted():
            raise KeyboardInterrupt
        if time.monotonic() - told >= _TOLD_EVERY_S:
            told = time.monotonic()
            pool, runs = taken[0]
            say(
                f"waiting for run {runs[0][:8]}, which holds pool {pool}; if it is no more, free its slot in the UI:"
                " Deployment, Concurrency"
            )
        time.sleep(0.5)


def _takers(instance: DagsterInstance, pool: str) -> set[str]:
    """Return the runs that leave no place in a pool, none where there is one."""
    info = instance.event_log_storage.get_concurrency_info(pool)
    holders: set[str] = info.active_run_ids
    return holders if holders and len(holders) >= info.slot_count else set()
