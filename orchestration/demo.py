"""`klinecast demo`: the whole pipeline once, on the built-in exchange, told as it goes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assets.errors import SettingsError
from assets.exchange_process import exchange_for, step_clock
from assets.interrupts import INTERRUPTED
from assets.model_state import current_model_version, newest_report
from assets.platform import Platform
from assets.settings import Settings, load_settings
from assets.time_steps import close_of_next_bar
from orchestration.cli.run import failures_of, run_job
from orchestration.cli.run_config import read_config
from orchestration.instance import open_instance

_STEP_MARGIN_MS = 1_000  # past the close, so that the bar is closed and not closing


@dataclass(frozen=True)
class Stage:
    """One line of the closing table."""

    name: str
    made: str
    seconds: float


class StageFailedError(Exception):
    """A stage of the demo failed; its message has been shown."""


class StageInterruptedError(Exception):
    """A stage in a process of its own was ended by Ctrl-C, and has said so."""


def run_demo(*, retrain: bool, config: Path | None = None) -> int:
    """Run the demo, its training with the run config in a file, and return the exit code."""
    console = Console(stderr=True)
    settings = load_settings()
    _require_builtin(settings)
    if config is not None and (code := _checked(config)):
        return code
    console.print(
        f"klinecast demo: state in {settings.home}; stop with Ctrl-C at any time, run again to go on\n",
        highlight=False,
        soft_wrap=True,
    )
    try:
        with exchange_for(settings) as url:
            stages = list(_stages(console, settings, url, retrain=retrain, config=config))
    except StageFailedError:
        return 1
    except StageInterruptedError:
        return INTERRUPTED
    _close(console, settings, stages)
    return 0


def _stages(
    console: Console, settings: Settings, url: str, *, retrain: bool, config: Path | None
) -> Iterator[Stage]:
    yield from _told(console, settings, "ingest", ["universe", "klines"], _in_process)
    yield from _told(console, settings, "make_features", ["features", "anomalies"], _in_process)
    version = current_model_version(settings.home)
    if version is None or retrain:
        made = ["training_set", "forecaster", "judgement", "onnx_model", "tflite_model", "champion"]
        train = partial(_in_child, config=config)
        yield from _told(console, settings, "train_and_export", made, train)
    else:
        unused = "" if config is None else f"; {config} was not used"
        console.print(
            f"[bold]train_and_export[/bold]: model {version} is there already (--retrain makes another){unused}",
            soft_wrap=True,
        )
        yield Stage("train_and_export", f"kept model {version}", 0.0)
    yield from _told(console, settings, "ingest", ["klines"], _in_process)
    yield from _told(console, settings, "prediction_sweep", ["predictions"], _in_process)
    step_clock(url, close_of_next_bar(Platform().now_ms(), settings.forecast_interval) + _STEP_MARGIN_MS)
    console.print(f"(the exchange's clock steps to the close of the next {settings.forecast_interval} bar)")
    yield from _told(console, settings, "ingest", ["klines"], _in_process)
    yield from _told(console, settings, "prediction_sweep", ["predictions"], _in_process)


def _told(
    console: Console, settings: Settings, job: str, assets: list[str], run: Callable[[str], list[str]]
) -> Iterator[Stage]:
    """Run one job, show what each of its assets says of itself, and give the lines of the closing table."""
    console.print(f"[bold]{job}[/bold] ...")
    started = time.perf_counter()
    problems = run(job)
    seconds = time.perf_counter() - started
    if problems:
        for message in problems:
            print(f"klinecast: {message}", file=sys.stderr)
        raise StageFailedError(job)
    made = _summaries(settings, assets)
    for name, summary in made.items() if run is _in_process else ():
        console.print(f"  {name:<13} {summary}", highlight=False, markup=False, soft_wrap=True)
    yield Stage(job, "; ".join(made.values()), seconds)


def _in_process(job: str) -> list[str]:
    result = run_job(job)
    return [] if result.success else failures_of(result) or [f"{job} failed"]


def _checked(config: Path) -> int:
    """Look whether a run config fits the training before anything is done; tells what is wrong, returns the code."""
    read_config(config)  # what is no run config at all is told at once
    return subprocess.run(
        [*_command("train_and_export", config), "--check-config"], stdout=subprocess.DEVNULL, check=False
    ).returncode


def _command(job: str, config: Path | None) -> list[str]:
    given = [] if config is None else ["--config", str(config)]
    return [sys.executable, "-m", "orchestration.cli", "run", job, *given]


def _in_child(job: str, config: Path | None = None) -> list[str]:
    """Run a job in a process of its own: TensorFlow's memory is given back when it ends."""
    former = signal.signal(signal.SIGINT, lambda *_: None)  # the child gets the Ctrl-C too, and tells of it
    try:
        code = subprocess.run(_command(job, config), check=False).returncode
    finally:
        signal.signal(signal.SIGINT, former)
    if code == INTERRUPTED:
        raise StageInterruptedError(job)
    return [] if code == 0 else [f"{job} failed (its message is above)"]


def _summaries(settings: Settings, assets: list[str]) -> dict[str, str]:
    import dagster as dg

    found: dict[str, str] = {}
    with open_instance(settings) as instance:
        for name in assets:
            event = instance.get_latest_materialization_event(dg.AssetKey(name))
            metadata: Any = (
                event.asset_materialization.metadata if event and event.asset_materialization else {}
            )
            found[name] = str(metadata["summary"].value) if "summary" in metadata else "made"
    return found


def _close(console: Console, settings: Settings, stages: list[Stage]) -> None:
    shown = Table("stage", "what was made", "seconds", title="\nWhat the demo made", title_justify="left")
    for stage in stages:
        shown.add_row(stage.name, stage.made, f"{stage.seconds:.1f}")
    shown.add_row("", "in all", f"{sum(stage.seconds for stage in stages):.1f}")
    console.print(shown)
    for line in _where_next(settings):
        console.print(line, highlight=False, soft_wrap=True)


def _where_next(settings: Settings) -> tuple[str, ...]:
    query = "SELECT symbol, count(*) FROM klines GROUP BY symbol"
    report = newest_report(settings.home)
    return (
        "\nBars go on closing: .venv/bin/klinecast run ingest fetches them, or make up with its schedules switched on",
        "\nWhere to look next",
        f"  make up                          the Dagster UI at http://127.0.0.1:{settings.ui_port}, these runs in it",
        "  .venv/bin/klinecast status       what this home holds, and whether it is ready to predict",
        "  .venv/bin/klinecast predictions  the newest predictions",
        f'  .venv/bin/klinecast sql "{query}"',
        *(
            [f"  {report}  how good the forecaster is, beside simpler ones: a page for a browser"]
            if report
            else []
        ),
        f"  {settings.home / 'models'}  the exported model, to be used without klinecast: docs/artifacts.md",
    )


def _require_builtin(settings: Settings) -> None:
    if settings.exchange_url is not None:
        raise SettingsError(
            "the demo runs on the built-in exchange, and another one is configured",
            where="KLINECAST_EXCHANGE_URL",
            remedy="unset it for the demo; for that exchange use: klinecast run ingest, and so on",
        )
