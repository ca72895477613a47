"""Progress of a long step: a bar in a terminal, plain lines without one, and lines in Dagster's log."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from assets.interrupts import heed, noting_interrupts

if TYPE_CHECKING:
    import dagster as dg

_PLAIN_SECONDS = 5.0
_LOG_SECONDS = 10.0
_PULSE_SECONDS = 0.5
_SILENT_SECONDS = 10.0
"""Where a step has told nothing for so long, a plain line says again what it is at, and for how long."""

_RECENT_SECONDS = 30.0
"""Speed is that of the last so many seconds: archives and single bars come at different ones."""

_SETTLED_SECONDS = 5.0
_SETTLED_SHARE = 0.02
_PATIENCE_SECONDS = 20.0
"""Time left is told after so many seconds and when so large a share is done, or after as long as this: what the first
moments suggest is far off."""

_MANY = 100
"""A speed means something where at least so many units are counted. Fewer are parts of work of different length: what
one of them took says little about the next."""

_SETTLED_SHARE_OF_FEW = 0.2
"""Of fewer units time left is told, as "about", once so large a share is done, from the time that all of it took."""

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
    """Tell how far one step is, to whoever watches, and heed Ctrl-C wherever it tells something.

    A step that is long at one thing, such as a child process, need not tell anything meanwhile: what it told last is
    told again from time to time.

    Parameters
    ----------
    context
        The asset's context; its log gets a line about every ten seconds.
    label
        What is being done, such as ``"klines"``.
    unit
        What is counted, such as ``"bars"``.
    """

    def __init__(
        self, context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, label: str, unit: str
    ) -> None:
        self._log = context.log
        self._label, self._unit = label, unit
        self._last_log = self._since = time.monotonic()
        self._last_plain = -math.inf  # the first line comes at once
        self._last_line = ""
        self._at = ""  # what it is at, since `_since`
        self._telling = threading.RLock()
        self._pace = _Pace(self._last_log)
        self._console = Console(file=_terminal) if _terminal is not None else None
        self._bar = self._start_bar()
        self._open = ExitStack()
        self._ended = threading.Event()

    def __enter__(self) -> StepProgress:
        self._open.enter_context(noting_interrupts())
        pulse = threading.Thread(target=self._pulse, name=f"progress of {self._label}", daemon=True)
        pulse.start()
        self._open.callback(pulse.join)
        self._open.callback(self._ended.set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        if self._bar is not None:
            self._bar.stop()
        elif self._console is not None and self._last_line:
            self._print(self._last_line)

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        """Say that `done` of `total` units are done; `detail` is shown beside them.

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C came, and what its handler raised was swallowed.
        """
        heed()
        now = time.monotonic()
        with self._telling:
            self._pace.note(now, done)
            speed, left = self._pace.speed(total), self._pace.time_left(total)
            if self._bar is not None:
                task = self._bar.task_ids[0]
                self._bar.update(task, completed=done, total=total, detail=detail, speed=speed, left=left)
            self._at, self._since = self._line(done, total, detail), now
            self._last_line = self._line(done, total, speed, left, detail) if done or total else ""
            if self._last_line and now - self._last_plain >= _PLAIN_SECONDS:
                self._print(self._last_line)
            if now - self._last_log >= _LOG_SECONDS:
                self._tell_log(self._line(done, total, speed, left, detail))

    def say(self, text: str) -> None:
        """Say what is being done, or what is wrong, while nothing can be counted.

        Raises
        ------
        KeyboardInterrupt
            As `update`.
        """
        heed()
        with self._telling:
            self._at, self._since = f"{self._label}: {text}", time.monotonic()
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], detail=text)
            self._print(self._at)
            self._tell_log(self._at)

    def _pulse(self) -> None:
        """Tell again what the step is at, while it tells nothing itself."""
        while not self._ended.wait(_PULSE_SECONDS):
            now = time.monotonic()
            with self._telling:
                line = f"{self._at}; at it for {now - self._since:,.0f} s" if self._at else ""
                if line and now - max(self._last_plain, self._since) >= _SILENT_SECONDS:
                    self._print(line)
                if line and now - self._since >= _PLAIN_SECONDS and now - self._last_log >= _LOG_SECONDS:
                    self._tell_log(line)

    def _tell_log(self, line: str) -> None:
        self._last_log = time.monotonic()
        self._log.info(line)

    def _print(self, line: str) -> None:
        """Print a plain line; in a terminal the bar shows it all."""
        self._last_plain = time.monotonic()
        if self._console is not None and self._bar is None:
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)
        self._last_line = ""

    def _line(self, done: float, total: float | None, *more: str) -> str:
        """Say how much is done and what else there is to say: speed, time left, what it is at."""
        whole = math.floor(done)  # a third of a fold is none yet
        unit = "" if self._unit == self._label else f" {self._unit}"
        of = f"{whole:,}{unit}" if done else ""
        if total:
            of = f"{whole:,} of {total:,.0f}{unit}"
        return f"{self._label}: {', '.join(part for part in (of, *more) if part)}"

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
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self._console,
            transient=True,
        )
        bar.add_task(self._label, total=None, detail="", speed="", left="")
        bar.start()
        return bar


class _Pace:
    """How fast a step goes, and how long the rest will take at that speed."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._seen: deque[tuple[float, float]] = deque([(started, 0.0)])

    def note(self, now: float, done: float) -> None:
        """Note that `done` units are done at `now` (s)."""
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _RECENT_SECONDS:
            self._seen.popleft()

    def speed(self, total: float | None) -> str:
        """Say how fast many units are counted off; nothing where there are few."""
        done, rate = self._seen[-1][1], self._recent
        if rate <= 0 or not _many(total, done):
            return ""
        return f"{rate:,.0f}/s" if rate >= 1 else f"{1 / rate:,.0f} s each"

    def time_left(self, total: float | None) -> str:
        """Say how long the rest will take; nothing while that cannot be told."""
        if not total or (seconds := self._left(total)) is None or seconds < 1:
            return ""
        return ("" if _many(total, 0) else "about ") + _time_left(seconds)

    @property
    def _recent(self) -> float:
        """Units a second of late."""
        (since, before), (now, done) = self._seen[0], self._seen[-1]
        return (done - before) / max(now - since, 1e-9)

    def _left(self, total: float) -> float | None:
        """Return the seconds that the rest will take, None while that cannot be told."""
        now, done = self._seen[-1]
        passed, many = now - self._started, _many(total, 0)
        share, least = done / total, _SETTLED_SHARE if many else _SETTLED_SHARE_OF_FEW
        early = passed < _SETTLED_SECONDS or share < least
        rate = self._recent if many else done / max(passed, 1e-9)
        if share >= 1 or rate <= 0 or (early and not (many and passed >= _PATIENCE_SECONDS)):
            return None
        return (total - done) / rate


def _many(total: float | None, done: float) -> bool:
    return (total or done) >= _MANY


def _time_left(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s left"
    return f"{seconds / 60:,.0f} min left" if seconds < 7_200 else f"{seconds / 3_600:,.1f} h left"
