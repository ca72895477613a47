"""Ledgers: files of JSON lines that are only ever appended to.

A line is on disk when `append` returns. A writer that is killed leaves at most a part of its own line behind: readers
pass over it, and the next writer ends it before it writes its own.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from training.errors import TrainingError, first_fault
from training.files import flush_to_disk

Entry = TypeVar("Entry", bound=BaseModel)


class LedgerError(TrainingError):
    """A ledger cannot be written, or an entry is not what belongs there."""


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Append one entry; writers take turns by a lock on the file.

    Parameters
    ----------
    path
        The ledger, made if need be.
    entry
        JSON values.

    Raises
    ------
    LedgerError
        The file cannot be written.
    """
    path = Path(path)
    line = json.dumps(entry, sort_keys=True).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            _write_whole(descriptor, b"\n" + line if torn else line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            flush_to_disk(path.parent)
    except OSError as error:
        raise LedgerError(
            f"the ledger cannot be written: {error.strerror or error}",
            where=str(path),
            remedy="free some space, or mend the folder's permissions",
        ) from error


def _write_whole(descriptor: int, data: bytes) -> None:
    """Write all of it: a disk that is nearly full takes a part without an error."""
    while data:
        data = data[os.write(descriptor, data) :]


def read(path: Path) -> list[dict[str, Any]]:
    """Return all whole entries, oldest first; none where there is no ledger yet."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # what a killed writer left of its line
        if isinstance(entry, dict):
            found.append(entry)
    return found


def read_as(path: Path, kind: type[Entry]) -> list[Entry]:
    """Return all whole entries as models of one kind, oldest first.

    Raises
    ------
    LedgerError
        An entry is none: somebody else wrote it.
    """
    try:
        return [kind.model_validate(entry) for entry in read(path)]
    except ValidationError as error:
        raise LedgerError(
            f"an entry is no {kind.__name__.lower()}: {first_fault(error)}",
            where=str(path),
            remedy="take that line out",
        ) from error
