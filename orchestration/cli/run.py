"""`klinecast run JOB`: one job in this process, its progress in the terminal, its record in the UI."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assets.errors import AssetError, GivenValueError
from assets.exchange_process import exchange_started_beside
from assets.interrupts import interrupted, noting_interrupts
from assets.progress import watch_progress
from assets.settings import Settings, load_settings
from assets.source import require_source
from orchestration.cli.exit_codes import DONE, FAILED, PARTLY, WRONG
from orchestration.cli.output import console
from orchestration.cli.run_config import read_config, require_fitting
from orchestration.failure_records import reasons_in, record_failure

LOCATIONS = {
    "ingest": "orchestration.definitions",
    "make_features": "orchestration.definitions",
    "prediction_sweep": "orchestration.definitions",
    "verify": "orchestration.definitions",
    "train_and_export": "orchestration.training_definitions",
    "search": "orchestration.training_definitions",
    "watch_drift": "orchestration.training_definitions",
}

_MISSED_SHOWN = 30

# Dagster's console log would tell each event in a line of its own; the progress line says what a person needs.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RecordsError(AssetError):
    """Dagster's own database cannot be used."""


def run_job(job: str, config: dict[str, Any] | None = None, assets: Sequence[str] | None = None) -> Any:
    """Run one job in this process and record it in this home's instance.

    The first Ctrl-C ends it where it is safe to; a second one ends the process at once.

    Parameters
    ----------
    job
        Its name; see `LOCATIONS`.
    config
        Dagster run config; None for the defaults.
    assets
        Only these of the job's assets, with their checks; None for all.

    Returns
    -------
    dagster.ExecuteInProcessResult

    Raises
    ------
    KeyboardInterrupt
        It was ended by Ctrl-C.
    """
    _require_job(job)
    settings = load_settings()
    watch_progress()
    with noting_interrupts(end_on_second=True), _exchange_beside(job, settings) as wait_for_exchange:
        return _run_in_process(job, config, assets, settings, wait_for_exchange)


def _run_in_process(
    job: str,
    config: dict[str, Any] | None,
    assets: Sequence[str] | None,
    settings: Settings,
    wait_for_exchange: Callable[[], None],
) -> Any:
    import importlib  # Dagster takes seconds to load, and no other command waits for it

    from dagster import AssetKey, DagsterExecutionInterruptedError

    from orchestration.instance import dagster_home, open_instance
    from orchestration.left_runs import end_left_runs, tagged_as_alive, wait_for_places
    from orchestration.run_origin import job_origin, runs_belong_to

    definitions = importlib.import_module(LOCATIONS[job]).defs
    try:
        marks = dagster_home(settings) / "processes"
        with open_instance(settings) as instance, tagged_as_alive(marks) as tags:
            definition = definitions.resolve_job_def(job)
            require_fitting(job, definition, config or {})
            for left in end_left_runs(instance, marks):
                record_failure(settings.home, instance, left)
            wait_for_places(
                instance, definition, lambda line: print(f"  {line}", file=sys.stderr, flush=True)
            )
            wait_for_exchange()
            with runs_belong_to(instance, job_origin(LOCATIONS[job], job)):
                result = definition.execute_in_process(
                    instance=instance,
                    run_config={**(config or {}), **_QUIET},
                    asset_selection=None if assets is None else [AssetKey(name) for name in assets],
                    raise_on_error=False,
                    tags=tags,
                )
            if not result.success and not interrupted():
                record_failure(settings.home, instance, result.run_id)
    except DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
    except _record_errors() as error:
        raise RecordsError(
            f"Dagster's records cannot be read or written: {str(error).splitlines()[0]}",
            where="KLINECAST_DATABASE_URL" if settings.database else str(dagster_home(settings)),
            remedy="free some space, mend the folder's permissions, or see whether the database answers",
        ) from None
    if not result.success and interrupted():  # whatever the failure became on its way through other code
        raise KeyboardInterrupt
    return result


def require_config(job: str, config: Path | None) -> int:
    """Say that the run config in a file fits a job, without running anything; returns the exit code.

    Raises
    ------
    GivenValueError
        If it does not.
    """
    import importlib

    _require_job(job)
    wanted = read_config(config) if config is not None else {}
    definition = importlib.import_module(LOCATIONS[job]).defs.resolve_job_def(job)
    require_fitting(job, definition, wanted)
    print(f"{config or 'no run config'}: fits {job}")
    return DONE


def _require_job(job: str) -> None:
    if job not in LOCATIONS:
        raise GivenValueError(
            f"there is no job {job!r}", where="klinecast run", remedy=f"use one of: {', '.join(LOCATIONS)}"
        )


@contextmanager
def _exchange_beside(job: str, settings: Settings) -> Iterator[Callable[[], None]]:
    """Start the exchange of a job that fetches bars while Dagster is being loaded; both assets use the same."""
    if job != "ingest":
        yield lambda: None
        return
    with exchange_started_beside(settings) as wait:
        yield wait


def _record_errors() -> tuple[type[Exception], ...]:
    """Return what Dagster's databases raise; an except clause asks, so that only a failure pays for the imports."""
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError, DagsterPostgresException


def failures_of(result: Any) -> list[str]:
    """Say in words why a run failed: the explained message where there is one."""
    return reasons_in(result.all_events)


def _code_of_failure(result: Any) -> int:
    """Tell a run that failed from one that a wrong value has kept from doing anything."""
    from assets.failures import GIVEN  # Dagster, which is loaded by now

    steps = [event.step_failure_data.user_failure_data for event in result.get_step_failure_events()]
    wrong = bool(steps) and all(step is not None and GIVEN in step.metadata for step in steps)
    return WRONG if wrong and not result.get_asset_materialization_events() else FAILED


def _beginning(called: str, settings: Settings, job: str) -> str:
    """Say what is about to happen, before anything that takes a while."""
    source = f" from {settings.exchange_url or 'the built-in exchange'}" if job == "ingest" else ""
    more = " and TensorFlow" if "training" in LOCATIONS[job] else ""
    return f"{called}: state in {settings.home}{source}; loading Dagster{more} ..."


def run_and_report(
    job: str,
    config: Path | dict[str, Any] | None = None,
    *,
    called: str | None = None,
    assets: Sequence[str] | None = None,
) -> int:
    """Run one job with a run config (or a file with one), tell how it went, and return the exit code.

    `called` is what the person who waits calls it, where that is not the job's name; `assets` as for `run_job`.
    """
    called = called or job
    out = console(stderr=True)
    started = time.perf_counter()
    _require_job(job)
    wanted = read_config(config) if isinstance(config, Path) else config
    settings = load_settings()
    if job == "ingest":
        require_source(settings)
    out.print(_beginning(called, settings, job), highlight=False, markup=False)
    result = run_job(job, wanted, assets)
    from assets.completeness import did_not_come  # Dagster, which is loaded by now

    seconds = time.perf_counter() - started
    for event in result.get_asset_materialization_events():
        summary = event.materialization.metadata.get("summary")
        if summary is not None:
            name = event.materialization.asset_key.to_user_string()
            out.print(f"  {name:<13} {summary.value}", highlight=False, markup=False)
    if job == "verify" and result.success:  # it makes nothing: what it says is all that it does
        for evaluation in result.get_asset_check_evaluations():
            out.print(f"  {evaluation.metadata['summary'].value}", highlight=False, markup=False)
    if not result.success:
        for message in failures_of(result):
            print(f"klinecast: {message}", file=sys.stderr)
        return _code_of_failure(result)
    out.print(f"{called} done in {seconds:.1f} s (run {result.run_id[:8]})", highlight=False, markup=False)
    return _tell_missed(called, did_not_come(result))


def _tell_missed(called: str, missed: dict[str, str]) -> int:
    """Name what a run could not bring, if anything, and return the exit code."""
    if not missed:
        return DONE
    lines = [f"  {series}: {why}" for series, why in missed.items()]
    if len(lines) > _MISSED_SHOWN:
        lines[_MISSED_SHOWN:] = [
            f"  and {len(lines) - _MISSED_SHOWN:,} more: check complete of klines in the UI"
        ]
    told = "\n".join(lines)
    print(
        f"klinecast: {called} brought everything but:\n{told}\n"
        "  do: what came is stored; the next run asks again for what is missing",
        file=sys.stderr,
    )
    return PARTLY
