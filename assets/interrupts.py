"""Ctrl-C that cannot be lost.

Python runs a signal's handler between any two steps of the main thread: also inside a weak reference's callback, a
callback of the garbage collector, or C code that clears errors. What a handler raises there is swallowed, and with it
the Ctrl-C. Two things are done about it:

- What the interpreter itself swallows it reports to `sys.unraisablehook`: then the signal is sent once more, a moment
  later.
- It writes each signal to a pipe, too, whatever becomes of the handler. That pipe is read, and `heed`, called wherever
  work tells how far it is, raises what nothing else has.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGAIN_SECONDS = 1.0
"""A second Ctrl-C so soon after the first is the same keypress twice, or the same one by way of another process."""
_RESEND_SECONDS = 0.05

_watch: _Watch | None = None


class _Watch:
    """Reads which signals came, and sends those again that were swallowed."""

    def __init__(self, end_on_second: bool) -> None:
        self.noted = threading.Event()
        self.heeded = False
        self._end_on_second = end_on_second
        self._first = 0.0
        self._sent = 0  # by ourselves, and not read yet
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._former_fd = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._former_hook, sys.unraisablehook = sys.unraisablehook, self._swallowed
        self._thread = threading.Thread(target=self._read, name="interrupts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.heeded = True
        sys.unraisablehook = self._former_hook
        signal.set_wakeup_fd(self._former_fd, warn_on_full_buffer=False)
        os.close(self._writing)  # the thread reads to the end
        self._thread.join()
        os.close(self._reading)

    def _read(self) -> None:
        while numbers := os.read(self._reading, 64):
            for number in numbers:
                if number in _SIGNALS:
                    self._note()

    def _note(self) -> None:
        now = time.monotonic()
        if self._sent:
            self._sent -= 1
        elif not self.noted.is_set():
            self._first = now
            self.noted.set()
        elif self._end_on_second and now - self._first >= _AGAIN_SECONDS:
            _end_at_once()

    def _swallowed(self, told: Any) -> None:
        """Take what was raised where nobody could get it; `told` as `sys.unraisablehook` is told."""
        if issubclass(told.exc_type, (Exception, SystemExit, GeneratorExit)):
            self._former_hook(told)
            return
        again = threading.Timer(_RESEND_SECONDS, self._send_again)
        again.daemon = True
        again.start()

    def _send_again(self) -> None:
        if not self.heeded:
            self._sent += 1
            os.kill(os.getpid(), signal.SIGINT)


@contextmanager
def noting_interrupts(*, end_on_second: bool = False) -> Iterator[None]:
    """Note every Ctrl-C from now on; does nothing off the main thread, or where they are noted already.

    Parameters
    ----------
    end_on_second
        Let a second Ctrl-C, a second or more after the first, end the process at once, whatever it is doing.
    """
    global _watch
    if _watch is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _watch = watch = _Watch(end_on_second)
    try:
        yield
    finally:
        _watch = None
        watch.stop()


def interrupted() -> bool:
    """Tell whether Ctrl-C came since `noting_interrupts`."""
    return _watch is not None and _watch.noted.is_set()


def heed() -> None:
    """Raise a Ctrl-C that came, if what its own handler raised has not ended this work.

    Raises
    ------
    KeyboardInterrupt
        On the main thread alone.
    """
    if _watch is not None and interrupted() and threading.current_thread() is threading.main_thread():
        _watch.heeded = True
        raise KeyboardInterrupt


def forget_exec() -> None:
    """Let the exit code be the one that was chosen.

    CPython remembers that a KeyboardInterrupt has passed through `exec` of a string, as data classes are made by, and
    at the end of `python -m` kills itself by SIGINT, even if the exception was taken; with the next such `exec` it
    forgets.
    """
    exec("")  # noqa: S102


def _end_at_once() -> None:
    cursor = b"\x1b[?25h" if os.isatty(2) else b""  # a progress bar hides it
    os.write(2, cursor + b"\nended at once; what was done is kept, run the same command again to go on\n")
    os._exit(INTERRUPTED)
