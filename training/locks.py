"""Locks between processes: who holds one keeps the others out, and the system lets go of it when its process ends.

A lock file is made if need be, and its holder may remove it; a folder that is there can be held, too. What becomes of
one who comes second is named by the function: `waiting` waits, and tells so if asked to; `at_once` gives up.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class HeldError(Exception):
    """Somebody else holds it."""


@contextmanager
def waiting(path: Path, tell: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold a lock file, or a folder, as soon as nobody else does; `tell` is called once if somebody does now."""
    try:
        descriptor = _taken(path, fcntl.LOCK_NB)
    except HeldError:
        if tell is not None:
            tell()
        descriptor = _taken(path)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def at_once(path: Path, *, make: bool = True) -> Iterator[None]:
    """Hold a lock file, or a folder, that nobody else holds.

    Raises
    ------
    HeldError
        Somebody does.
    FileNotFoundError
        Nothing is there, and a lock file is not to be made.
    """
    descriptor = _taken(path, fcntl.LOCK_NB, make=make)
    try:
        yield
    finally:
        os.close(descriptor)


def _taken(path: Path, how: int = 0, *, make: bool = True) -> int:
    """Return the open descriptor that holds the lock."""
    while True:
        descriptor = _opened(path) if make else os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | how)
            if _is_still(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise HeldError(path) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it while this one waited; there may be another by that name


def _opened(path: Path) -> int:
    if path.is_dir():
        return os.open(path, os.O_RDONLY)
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
