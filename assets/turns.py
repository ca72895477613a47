"""One run at a time at one thing: who comes second waits, says so, and then finds what the first has made."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOK_SECONDS = 0.5


@contextmanager
def turn_at(lock: Path, tell: Callable[[str], object]) -> Iterator[None]:
    """Hold a lock file, which is made; the system lets go of it when the process ends, however it ends.

    Parameters
    ----------
    tell
        Called once if another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        told = False
        while not _taken(file.fileno()):
            if not told:
                tell(f"another run is at work on the same ({lock.name}): waiting for it to end")
                told = True
            time.sleep(_LOOK_SECONDS)
        yield


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
