"""Where the commands write: a terminal has a width, a pipe and a file have none."""

from __future__ import annotations

import os
import sys

from rich.console import Console

_ENDLESS = 10_000


def console(*, stderr: bool = False) -> Console:
    """Return the console of standard output or error; where no terminal is, and no COLUMNS, nothing is wrapped."""
    stream = sys.stderr if stderr else sys.stdout
    wide = not stream.isatty() and not os.environ.get("COLUMNS")
    return Console(stderr=stderr, width=_ENDLESS if wide else None)
