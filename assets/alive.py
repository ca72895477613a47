"""Which process is behind something, and whether it is still there: it holds a lock for as long as it lives."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.locks import HeldError, at_once


@contextmanager
def marked_as_alive(folder: Path) -> Iterator[str]:
    """Give this process a name, and hold a lock on the file in `folder` that it stands for."""
    mark = folder / f"{os.getpid()}-{os.urandom(4).hex()}"
    with at_once(mark):
        try:
            yield f"{platform.node()}/{mark.name}"
        finally:
            mark.unlink(missing_ok=True)


def is_gone(process: str, folder: Path) -> bool:
    """Tell whether a process of this machine is gone; of another machine's nothing is known here."""
    node, _, mark = process.rpartition("/")
    if process and node != platform.node():
        return False
    if not mark or "/" in mark:  # there was no mark
        return True
    try:
        with at_once(folder / mark, make=False):
            (folder / mark).unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except HeldError:
        return False
    return True
