"""One run at a time at one thing: who comes second waits, says so, and then finds what the first has made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from training.locks import HeldError, at_once, waiting


def turn_at(lock: Path, tell: Callable[[str], object]) -> AbstractContextManager[None]:
    """Hold a lock file, which is made; `tell` is called once if another process holds it."""
    return waiting(
        lock, lambda: tell(f"another run is at work on the same ({lock.name}): waiting for it to end")
    )


def remove_at_turn(lock: Path, folder: Path) -> bool:
    """Remove a folder and the lock file of whoever works in it, unless somebody does; tells whether it did."""
    try:
        with at_once(lock):
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink()
    except HeldError:
        return False
    return True
