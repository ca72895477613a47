"""Where the cold Parquet files rest: named, whole and never changed, in a folder or in a bucket."""

from __future__ import annotations

import builtins
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from market.bucket_url import S3_SCHEME
from market.errors import MarketError

_TEMPORARY: Final = ".tmp"


class StoredObject(NamedTuple):
    """What a listing tells of an object: its name, when it was put (ms) and its size in bytes."""

    name: str
    modified_ms: int
    size: int


class ObjectStore(Protocol):
    """Immutable objects by name (``1m/2023-11-15-<hash>.parquet``), in a place of their own.

    A name stands for its content: it may be put again with the same bytes, which only makes it new. Every
    method raises MarketError, and no other error, when the place cannot be used.
    """

    @property
    def where(self) -> str:
        """The place, for messages; it holds no secret."""

    @property
    def storage_options(self) -> dict[str, Any] | None:
        """What ``polars.scan_parquet`` needs beside a URI; None where the URI is enough."""

    @property
    def scratch(self) -> Path:
        """A folder on this machine for files that are about to be put, near enough not to be copied."""

    def put(self, name: str, data: bytes | memoryview | Path) -> None:
        """Store an object, durable and whole when this returns; nobody ever sees a part of it.

        Parameters
        ----------
        name : str
            Relative, with ``/`` between its parts.
        data : bytes, memoryview or Path
            The content, or a file with it, which stays and must not be written to afterwards.
        """

    def create(self, name: str, data: bytes) -> bool:
        """Store an object unless there is one of this name already; returns whether it was stored."""

    def get(self, name: str) -> bytes:
        """Return an object's content; MarketError if it is not there."""

    def read(self, name: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object."""

    def exists(self, name: str) -> bool:
        """Return whether there is an object of this name."""

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens if it is not there."""

    def uri(self, name: str) -> str:
        """Return what Polars and DuckDB open the object by: an absolute path, or a URL."""

    def local_path(self, name: str) -> Path | None:
        """Return the object as a file of this machine, None where it is not one."""

    def explained(self, name: str | None = None) -> AbstractContextManager[None]:
        """Turn the errors of whoever reads through a `uri` into MarketError; `name` is for the message."""

    def list(self) -> builtins.list[StoredObject]:
        """Return every object, and what puts that were cut short have left behind (``.<...>.tmp``)."""


def open_objects(url_or_path: str | Path) -> ObjectStore:
    """Return the objects of a folder or of a bucket.

    Parameters
    ----------
    url_or_path : str or Path
        A folder, which is made if it is not there, or ``s3://bucket/prefix``.

    Raises
    ------
    MarketError
        If it is neither, or cannot be used.
    """
    text = str(url_or_path)
    if isinstance(url_or_path, Path) or "://" not in text:
        return LocalFolder(Path(text))
    if text.startswith(S3_SCHEME):
        from market.store.objects_s3 import S3Bucket  # its client is loaded only where it is used

        return S3Bucket(text)
    raise MarketError(
        f"no objects can be kept under a URL that starts with {text.split('://')[0]}://",
        where="the URL of the cold files",
        remedy="give s3://bucket/prefix, or no URL to keep them on this machine's disk",
    )


class LocalFolder:
    """Objects as files of a folder.

    Parameters
    ----------
    folder : Path
        It is made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()
        with _explained(self.folder):
            _make_folder(self.folder)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied", str(self.folder))

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def storage_options(self) -> dict[str, Any] | None:
        """None: a path is enough."""
        return None

    @property
    def scratch(self) -> Path:
        """The folder itself: a file in it is linked, not copied, when it is put."""
        return self.folder

    def put(self, name: str, data: bytes | memoryview | Path) -> None:
        """See `ObjectStore.put`: temporary file, fsync, rename, fsync of the folder."""
        path = self._path(name)
        with _explained(path), _staged(path, data) as staged:
            staged.replace(path)
            _sync_folder(path.parent)

    def create(self, name: str, data: bytes) -> bool:
        """See `ObjectStore.create`."""
        path = self._path(name)
        with _explained(path), _staged(path, data) as staged:
            try:
                os.link(staged, path)
            except FileExistsError:
                return False
            except OSError:  # a disk without hard links, where two at the same moment cannot be told apart
                if path.exists():
                    return False
                staged.replace(path)
            _sync_folder(path.parent)
        return True

    def get(self, name: str) -> bytes:
        """See `ObjectStore.get`."""
        path = self._path(name)
        with _explained(path):
            return path.read_bytes()

    def read(self, name: str, start: int, end: int) -> bytes:
        """See `ObjectStore.read`."""
        path = self._path(name)
        with _explained(path), path.open("rb", buffering=0) as stream:
            return os.pread(stream.fileno(), end - start, start)

    def exists(self, name: str) -> bool:
        """See `ObjectStore.exists`."""
        path = self._path(name)
        with _explained(path):
            return path.is_file()

    def delete(self, name: str) -> None:
        """See `ObjectStore.delete`."""
        path = self._path(name)
        with _explained(path):
            path.unlink(missing_ok=True)

    def uri(self, name: str) -> str:
        """Return the file's absolute path."""
        return str(self._path(name))

    def local_path(self, name: str) -> Path | None:
        """Return the file's absolute path."""
        return self._path(name)

    def explained(self, name: str | None = None) -> AbstractContextManager[None]:
        """See `ObjectStore.explained`."""
        return _explained(self.folder if name is None else self._path(name))

    def list(self) -> builtins.list[StoredObject]:
        """See `ObjectStore.list`."""
        found = []
        with _explained(self.folder):
            for path in sorted(self.folder.rglob("*")):
                try:
                    state = path.stat()
                except FileNotFoundError:  # removed by another process meanwhile
                    continue
                if stat.S_ISREG(state.st_mode):
                    name = path.relative_to(self.folder).as_posix()
                    found.append(StoredObject(name, state.st_mtime_ns // 1_000_000, state.st_size))
        return found

    def _path(self, name: str) -> Path:
        return self.folder / checked_name(name)


def checked_name(name: str) -> str:
    """Return a name that stays inside its place; MarketError for any other."""
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or "\\" in name or "\0" in name:
        raise MarketError(
            f"{name!r} is no name of an object",
            where="the name",
            remedy="use relative names with / between their parts, such as 1m/2023-11-15-ab12.parquet",
        )
    return name


def not_there(where: str) -> MarketError:
    """Return the error for an object that is not there."""
    return MarketError(
        "a file of the store is not there",
        where=where,
        remedy="put the file back from a backup; table `files` of the store has its SHA-256",
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise not_there(str(path)) from error
    except OSError as error:
        raise MarketError(
            f"a file of the store cannot be read or written: {error.strerror or error}",
            where=str(error.filename or path),
            remedy="free disk space, or mend the folder's owner and mode, then run this again;"
            " nothing stored is lost",
        ) from error


@contextmanager
def _staged(path: Path, data: bytes | memoryview | Path) -> Iterator[Path]:
    """Give a temporary file beside `path` that holds the data, durably; it is gone afterwards."""
    _make_folder(path.parent)
    staged = path.with_name(f".{path.name}-{os.getpid()}-{os.urandom(4).hex()}{_TEMPORARY}")
    try:
        if isinstance(data, Path):
            _link_or_copy(data, staged)
        else:
            staged.write_bytes(data)
        _sync(staged, os.O_RDONLY)
        yield staged
    finally:
        staged.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
