"""One process at a time, where the file system has locks."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


@contextmanager
def held_if_possible(path: Path, otherwise: str) -> Iterator[bool]:
    """Hold an exclusive lock on a folder, or on a file that is made; the system drops it should this process die.

    Parameters
    ----------
    path
        What is locked.
    otherwise
        What is to be expected where there can be no lock (a full disk, a file system without them): for the log.

    Yields
    ------
    bool
        Whether the lock is held.
    """
    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        held = True
    except OSError as error:
        log.warning("no lock on %s, %s: %s", path, otherwise, error)
        held = False
    try:
        yield held
    finally:
        if descriptor is not None:
            os.close(descriptor)
