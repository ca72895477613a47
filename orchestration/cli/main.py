"""Commands and their arguments; the work is done in the modules that each command imports."""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from assets.errors import AssetError, GivenValueError
from assets.interrupts import INTERRUPTED, forget_exec
from orchestration.cli import models
from orchestration.cli.exit_codes import FAILED, WRONG

app = typer.Typer(
    name="klinecast",
    help="Batch data and ML platform for crypto klines: ingest, features, forecaster, prediction sweeps.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done; 1 failed; 2 the command or a value on it is wrong, and nothing was done;"
    " 3 done in part (what is missing is named); 130 Ctrl-C.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(models.app)

Symbols = Annotated[
    str | None,
    typer.Option(
        "--symbols", "--symbol", help="Only these symbols, separated by commas.", show_default="all"
    ),
]
Intervals = Annotated[
    str | None,
    typer.Option(
        "--intervals", "--interval", help="Only these intervals, separated by commas.", show_default="all"
    ),
]
GAPS_SHOWN = 50

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"klinecast {version('klinecast')}")
        raise typer.Exit


@app.callback()
def _of_every_command(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is."),
    ] = False,
) -> None:
    """Take what may stand before a command."""


@app.command()
def demo(
    retrain: Annotated[bool, typer.Option(help="Train again although this home has a model.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Dagster run config of train_and_export, a YAML file.",
            show_default="none: every step by its defaults",
        ),
    ] = None,
) -> None:
    """Run the whole pipeline once on the built-in exchange, and say what came out."""
    from orchestration.demo import run_demo

    with _interruptible():
        raise typer.Exit(run_demo(retrain=retrain, config=config))


@app.command()
def up() -> None:
    """Start the Dagster UI, its daemon and the built-in exchange; Ctrl-C stops them."""
    from orchestration.up import run_up

    raise typer.Exit(run_up())


@app.command()
def run(
    job: Annotated[
        str,
        typer.Argument(
            help="ingest, make_features, train_and_export, search, watch_drift, prediction_sweep or verify"
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Dagster run config, a YAML file.", show_default="none: every step by its defaults"
        ),
    ] = None,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Only say whether the run config fits the job.")
    ] = False,
) -> None:
    """Run one job here and now; the run is in the UI's list like any other."""
    from orchestration.cli.run import require_config, run_and_report

    with _interruptible():
        raise typer.Exit(require_config(job, config) if check_config else run_and_report(job, config))


@app.command()
def backfill(
    start: Annotated[str, typer.Option(help="First open time: ISO 8601 (UTC) or ms.")],
    end: Annotated[str | None, typer.Option(help="Only bars that open before.", show_default="now")] = None,
    symbols: Symbols = None,
    intervals: Intervals = None,
) -> None:
    """Fetch history: whole months from bulk archives where that is cheaper, the rest bar by bar."""
    from orchestration.cli.backfill import run_backfill

    with _interruptible():
        raise typer.Exit(run_backfill(start, end, symbols, intervals))


@app.command()
def status(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 unless it is ready, for scripts and probes.")
    ] = False,
) -> None:
    """Say what this home holds and whether it is ready to predict."""
    from orchestration.cli.status import show_status

    raise typer.Exit(show_status(check=check))


@app.command()
def predictions(
    symbols: Symbols = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
) -> None:
    """Show the newest predictions."""
    from orchestration.cli.predictions import show_predictions

    raise typer.Exit(show_predictions(symbols, limit))


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A DuckDB query over klines, predictions, flags, gaps ...")],
) -> None:
    """Query the store with DuckDB."""
    from orchestration.cli.sql import show_query

    raise typer.Exit(show_query(query))


@app.command()
def gaps(
    intervals: Intervals = None,
    symbols: Symbols = None,
    cause: Annotated[
        str | None, typer.Option(help="Only this cause, such as outage or refused_rows.", show_default="all")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Gaps to show, the largest.", show_default=f"{GAPS_SHOWN}; all with --json"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As one JSON object, times in ms.")] = False,
) -> None:
    """Show which bars are missing, why, and who was asked for them."""
    from orchestration.cli.gaps import show_gaps

    raise typer.Exit(show_gaps(intervals, symbols, cause, limit, json, shown=GAPS_SHOWN))


@app.command()
def remove(
    interval: Annotated[str, typer.Option(help="The interval whose bars shall go.")],
    symbols: Symbols = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Only bars that open from here on: ISO 8601 (UTC) or ms.", show_default="the first bar"
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            help="Only bars that open before: ISO 8601 (UTC) or ms.", show_default="after the last bar"
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove bars: say which, ask, and then do it. Nothing else ever deletes a bar."""
    from orchestration.cli.remove import remove_bars

    raise typer.Exit(remove_bars(interval, symbols, start, end, sure=yes))


@app.command()
def settings() -> None:
    """Show every setting: its value here, and what it means."""
    from orchestration.cli.settings import show_settings

    raise typer.Exit(show_settings())


@app.command()
def env() -> None:
    """Print the line that lets dg and dagster use this home: eval "$(klinecast env)"."""
    from assets.settings import load_settings
    from orchestration.instance import prepare_instance

    print(
        f"export DAGSTER_HOME={shlex.quote(str(prepare_instance(load_settings())))} DAGSTER_DISABLE_TELEMETRY=1"
    )


@app.command()
def service(name: Annotated[str, typer.Argument(help="webserver or daemon")]) -> None:
    """Become one of Dagster's services for this home; for an init system, see deploy/."""
    from orchestration.up import become_service

    become_service(name)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def exchange(context: typer.Context) -> None:
    """Run the built-in exchange alone; see `klinecast exchange --help`."""
    from assets.exchange_process import run_exchange

    raise typer.Exit(run_exchange(context.args))


@contextmanager
def _interruptible() -> Iterator[None]:
    """End on Ctrl-C with a line that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        forget_exec()
        print("\ninterrupted; what was done is kept, run the same command again to go on", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


class OutputError(AssetError):
    """Standard output takes nothing more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"the output cannot be written: {error.strerror}",
            where="standard output",
            remedy="write it to where there is space",
        )


def main() -> None:
    """Run the command line; an explained error is told in three lines, without a trace."""
    try:
        app()
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
            error = OutputError(error)
        if not all(hasattr(error, name) for name in ("what", "where", "remedy")):
            raise
        print(f"klinecast: {error}", file=sys.stderr)
        sys.exit(WRONG if isinstance(error, GivenValueError) else FAILED)
