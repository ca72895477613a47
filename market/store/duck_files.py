"""The Parquet files of a snapshot as DuckDB sees them: a file system that can do nothing but read these files."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from fsspec import AbstractFileSystem

from market.store.manifest import ColdFile
from market.store.objects import ObjectStore

SCHEME: Final = "cold://"
_NEVER: Final = datetime(
    1970, 1, 1, tzinfo=UTC
)  # a file is never changed: any time does, so long as it stays


class SnapshotFiles(AbstractFileSystem):
    """Files by URL, ``cold://<interval>/<file>``, read-only; any other one is not there.

    DuckDB's own access would let ``COPY`` write over a file that it may read.

    Parameters
    ----------
    objects : ObjectStore
        Where the files rest.
    files : Iterable[ColdFile]
        Those of the snapshot.
    """

    protocol = SCHEME.removesuffix("://")
    cachable = False

    def __init__(self, objects: ObjectStore, files: Iterable[ColdFile]) -> None:
        super().__init__()
        self._objects = objects
        self._sizes = {file.path: file.bytes for file in files}

    def glob(self, path: str, **options: Any) -> list[str]:
        """Return the file itself: names hold no patterns."""
        return [path] if self._name(path) in self._sizes else []

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Return name, size and type of a file, without asking the objects."""
        name = self._name(path)
        if name not in self._sizes:
            raise FileNotFoundError(path)
        return {"name": path, "size": self._sizes[name], "type": "file"}

    def modified(self, path: str) -> datetime:
        """Return the same time for every file."""
        return _NEVER

    def open(self, path: str, mode: str = "rb", **options: Any) -> _ObjectFile:
        """Open a file for reading; PermissionError for anything else."""
        if mode != "rb":
            raise PermissionError(f"{path}: the files of the store are read-only here")
        return _ObjectFile(self._objects, self._name(path), self.info(path)["size"])

    def _name(self, path: str) -> str:
        return path.removeprefix(SCHEME)


class _ObjectFile(io.RawIOBase):
    """An object as a file.

    DuckDB's threads share one, and each seeks and then reads: the position is therefore the thread's own.
    """

    def __init__(self, objects: ObjectStore, name: str, size: int) -> None:
        super().__init__()
        self._objects, self._name, self._size = objects, name, size
        self._positions: dict[int, int] = {}

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return this thread's position."""
        return self._positions.get(threading.get_ident(), 0)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set this thread's position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        self._positions[threading.get_ident()] = base + offset
        return base + offset

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, all that are asked for if the file has so many."""
        start = self.tell()
        end = self._size if size < 0 else min(start + size, self._size)
        data = self._objects.read(self._name, start, end) if end > start else b""
        self._positions[threading.get_ident()] = start + len(data)
        return data
