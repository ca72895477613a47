"""Where the commands write: a terminal has a width, a pipe and a file have none."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from assets.errors import AssetError
from orchestration.cli.exit_codes import DONE, PARTLY

_ENDLESS = 10_000


def console(*, stderr: bool = False) -> Console:
    """Return the console of standard output or error; where no terminal is, and no COLUMNS, nothing is wrapped."""
    stream = sys.stderr if stderr else sys.stdout
    wide = not stream.isatty() and not os.environ.get("COLUMNS")
    return Console(stderr=stderr, width=_ENDLESS if wide else None)


def print_table(table: Table) -> None:
    """Print a table as wide as its content on standard output: a narrow terminal breaks lines, and cuts nothing."""
    out = console()
    whole = Measurement.get(out, out.options.update(max_width=_ENDLESS), table).maximum
    (out if whole <= out.width else Console(width=whole)).print(table)


def told_missing(*missing: AssetError | None) -> int:
    """Tell on standard error what was asked for and is not there, after what is; returns the exit code."""
    errors = [error for error in missing if error is not None]
    for error in errors:
        print(f"klinecast: {error}", file=sys.stderr)
    return PARTLY if errors else DONE
