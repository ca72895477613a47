"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_to_disk(path: Path) -> None:
    """Wait until the file or folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Publish `data` at `path`: whole and on disk when this returns, the former content until then."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        publish(part, path)
    finally:
        part.unlink(missing_ok=True)


def publish(part: Path, path: Path) -> None:
    """Move a finished file into place, durably."""
    flush_to_disk(part)
    part.replace(path)
    flush_to_disk(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder beside `path` that takes its place when the block ends without an error.

    Several may be filled for the same place at once; the last to end is the one that stays. What a killed process left
    is removed the next time: a folder is locked for as long as it is filled, and the system lets go of the locks of a
    process that has ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    with _locked(path.parent):
        for left in path.parent.glob(f".{path.name}.*.part"):
            _remove_if_abandoned(left)
        part.mkdir()
        filling = os.open(part, os.O_RDONLY)
        fcntl.flock(filling, fcntl.LOCK_EX)
    try:
        yield part
        for file in part.iterdir():
            flush_to_disk(file)
        former = part.with_name(f"{part.name.removesuffix('.part')}.former.part")
        with _locked(path.parent):
            if path.exists():
                path.rename(former)
            part.rename(path)
        flush_to_disk(path.parent)
        shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        os.close(filling)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes and threads that do the same out."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder that nobody fills any more."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # somebody removed it a moment ago
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
    finally:
        os.close(descriptor)
