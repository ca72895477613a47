"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from training.locks import HeldError, at_once, waiting

_PART = ".part"


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
    is removed the next time.
    """
    with scratch_folder(path.parent, f".{path.name}.") as part:
        yield part
        for file in part.iterdir():
            flush_to_disk(file)
        former = part.with_name(f"{part.name.removesuffix(_PART)}.former{_PART}")
        with waiting(path.parent):
            if path.exists():
                path.rename(former)
            part.rename(path)
        flush_to_disk(path.parent)
        shutil.rmtree(former, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder in `parent` for work in progress, whose name begins with `prefix`; at the end it is removed.

    So are those that killed processes left: a folder is held for as long as it is worked in, and the system lets go of
    what a process held that has ended.
    """
    parent.mkdir(parents=True, exist_ok=True)
    part = parent / f"{prefix}{secrets.token_hex(6)}{_PART}"
    with ExitStack() as held:
        with waiting(parent):  # nobody takes it for abandoned before it is held
            for left in parent.glob(f"{prefix}*{_PART}"):
                remove_unless_held(left)
            part.mkdir()
            held.enter_context(waiting(part))
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def remove_unless_held(folder: Path) -> bool:
    """Remove a folder, and all in it, that no process holds; tells whether it did."""
    try:
        with at_once(folder, make=False):
            shutil.rmtree(folder, ignore_errors=True)
    except (HeldError, FileNotFoundError):
        return False
    return True
