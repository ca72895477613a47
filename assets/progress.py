"""Progress of a long step: a bar in a terminal, plain lines without one, and lines in Dagster's log."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import TextIO

import dagster as dg
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_PLAIN_SECONDS = 5.0
_LOG_SECONDS = 15.0


_terminal: TextIO | None = None


def watch_progress() -> None:
    """Show progress on this process's standard error from now on.

    A copy of it is kept, because Dagster puts a pipe in its place while a step runs: behind a pipe nobody could tell
    whether a person sits there.
    """
    global _terminal
    if _terminal is None:
        _terminal = os.fdopen(os.dup(2), "w")


class StepProgress:
    """Tell how far one step is, to whoever watches.

    Parameters
    ----------
    context
        The asset's context; its log gets a line every quarter of a minute.
    label
        What is being done, such as ``"klines"``.
    unit
        What is counted, such as ``"bars"``.
    """

    def __init__(self, context: dg.AssetExecutionContext, label: str, unit: str) -> None:
        self._log = context.log
        self._label, self._unit = label, unit
        self._started = time.monotonic()
        self._last_log = self._last_plain = self._started
        self._console = Console(file=_terminal) if _terminal is not None else None
        self._bar = self._start_bar()

    def __enter__(self) -> StepProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        """Say that `done` of `total` units are done; `detail` is shown beside them."""
        if self._bar is not None:
            speed = _speed(done / max(time.monotonic() - self._started, 1e-9))
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, detail=detail, speed=speed)
        now = time.monotonic()
        if self._console is not None and self._bar is None and now - self._last_plain >= _PLAIN_SECONDS:
            self._last_plain = now
            self._console.print(self._line(done, total, detail), highlight=False, soft_wrap=True)
        if now - self._last_log >= _LOG_SECONDS:
            self._last_log = now
            self._log.info(self._line(done, total, detail))

    def _line(self, done: float, total: float | None, detail: str) -> str:
        rate = done / max(time.monotonic() - self._started, 1e-9)
        of = f"{done:,.0f} of {total:,.0f} {self._unit}" if total else f"{done:,.0f} {self._unit}"
        left = f", {(total - done) / rate:,.0f} s left" if total and rate > 0 else ""
        return f"{self._label}: {of}, {_speed(rate)}{left}{', ' + detail if detail else ''}"

    def _start_bar(self) -> Progress | None:
        if self._console is None or not self._console.is_terminal:
            return None
        bar = Progress(
            TextColumn("  {task.description:<12}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn(self._unit),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self._console,
            transient=True,
        )
        bar.add_task(self._label, total=None, detail="", speed="")
        bar.start()
        return bar


def _speed(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 1 else f"{1 / rate:,.0f} s each" if rate > 0 else "not yet"
