"""A watch that runs while at least one of several things is being done."""

from __future__ import annotations

import time


class Stopwatch:
    """Adds up the time in which at least one thing is being done; enter it around each."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._running = 0
        self._since = 0.0

    def __enter__(self) -> None:
        if not self._running:
            self._since = time.perf_counter()
        self._running += 1

    def __exit__(self, *_: object) -> None:
        self._running -= 1
        if not self._running:
            self.seconds += time.perf_counter() - self._since
