"""Published features: one folder per version, read by memory mapping, never seen half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kernels.catalogue import CATALOGUE_VERSION
from kernels.compute import FeatureBlock
from kernels.errors import KernelError
from kernels.locks import held_if_possible

_KEEP = 2
_MANIFEST = "manifest.json"
_LATEST = "latest"
_VALUES, _TIMES = "values.npy", "open_time.npy"
_DRAFT = ".draft-"


def publish(block: FeatureBlock, interval: str, home: Path, extra: dict[str, Any] | None = None) -> Path:
    """Write a new version of an interval's features and make it the latest.

    Parameters
    ----------
    block
        What to publish.
    interval
        Kline interval, e.g. ``5m``.
    home
        Folder of all state; versions lie in ``home/features/<interval>/``.
    extra
        Further entries for the manifest.

    Returns
    -------
    Path
        The version's folder: values.npy (F, T, S) float32, open_time.npy (T,) int64, manifest.json. The version before
        stays for readers that have it open; older ones are removed.
    """
    parent = home / "features" / interval
    parent.mkdir(parents=True, exist_ok=True)
    with _only_writer(parent):
        draft = Path(tempfile.mkdtemp(dir=parent, prefix=_DRAFT))
        try:
            folder = _move_in(draft, block, _manifest(block, interval, extra or {}))
            pointer = draft.with_name(f"{draft.name}-{_LATEST}")
            _write(pointer, folder.name.encode())
            pointer.replace(parent / _LATEST)
            _sync_folder(parent)
        except OSError as error:
            raise KernelError(
                f"features cannot be written: {error}",
                where=f"{parent}: {block.values.nbytes} bytes to write, {shutil.disk_usage(parent).free} free",
                remedy="make room on this disk, or move the home to another",
            ) from error
        finally:
            _remove_drafts(parent, draft.name)
        _prune(parent, keep=folder)
    return folder


@contextmanager
def _only_writer(parent: Path) -> Iterator[None]:
    """One writer at a time, who clears away what killed ones have left behind. Readers need no lock."""
    with held_if_possible(parent, "others may publish features at the same time") as held:
        if held:
            _remove_drafts(parent)
        yield


def _remove_drafts(parent: Path, prefix: str = _DRAFT) -> None:
    for left in parent.glob(f"{prefix}*"):
        left.unlink() if left.is_file() else shutil.rmtree(left, ignore_errors=True)


def _move_in(draft: Path, block: FeatureBlock, manifest: dict[str, Any]) -> Path:
    """Write a version into the draft, and put that in its place; returns the place."""
    _save(draft / _VALUES, np.ascontiguousarray(block.values, dtype=np.float32))
    _save(draft / _TIMES, np.asarray(block.open_time, dtype=np.int64))
    version = _version(draft, manifest)
    _write(draft / _MANIFEST, json.dumps({**manifest, "version": version}, indent=1).encode())
    _sync_folder(draft)
    draft.chmod(0o755)
    folder = draft.parent / version
    if folder.exists() and not _is_whole(folder):
        folder.rename(draft.with_name(f"{draft.name}-damaged"))
    if not folder.exists():
        draft.replace(folder)
    _sync_folder(draft.parent)
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether a version still has the content that it is named after."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        return bool(manifest.pop("version") == _version(folder, manifest) == folder.name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def open_latest(home: Path, interval: str) -> FeatureBlock:
    """Map the latest features of an interval into memory, read-only.

    Raises
    ------
    KernelError
        Nothing was published, or what lies there does not fit together.
    """
    parent = home / "features" / interval
    version = _latest(parent)
    while True:
        try:
            return _open(parent / version)
        except KernelError:
            before, version = version, _latest(parent)
            if version == before:  # else later ones have come, and this one has gone
                raise


def _latest(parent: Path) -> str:
    """Version that the pointer names."""
    try:
        return (parent / _LATEST).read_text().strip()
    except FileNotFoundError:
        raise KernelError(
            f"no features of interval {parent.name!r} have been published",
            where=str(parent),
            remedy="materialise `features` first: klinecast run ingest, then klinecast run make_features",
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(parent / _LATEST, str(error)) from error


def _open(folder: Path) -> FeatureBlock:
    """Map one version."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        values = np.load(folder / _VALUES, mmap_mode="r", allow_pickle=False)
        open_time = np.load(folder / _TIMES, mmap_mode="r", allow_pickle=False)
        names, symbols = tuple(manifest["names"]), tuple(manifest["symbols"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise _unreadable(folder, str(error)) from error
    if values.dtype != np.float32 or open_time.dtype != np.int64 or open_time.ndim != 1:
        raise _unreadable(folder, f"values {values.dtype}, open_time {open_time.dtype} {open_time.shape}")
    if values.shape != (len(names), len(open_time), len(symbols)):
        wanted = f"{len(names)} features, {len(open_time)} bars, {len(symbols)} symbols"
        raise _unreadable(folder, f"values {values.shape} do not fit together with {wanted}")
    return FeatureBlock(values, names, open_time, symbols)


def _unreadable(place: Path, why: str) -> KernelError:
    return KernelError(
        f"published features cannot be read: {why}",
        where=str(place),
        remedy="materialise `features` anew: klinecast run make_features",
    )


def _manifest(block: FeatureBlock, interval: str, extra: dict[str, Any]) -> dict[str, Any]:
    bars = len(block.open_time)
    return {
        **extra,
        "format_version": 1,
        "catalogue_version": CATALOGUE_VERSION,
        "interval": interval,
        "names": list(block.names),
        "symbols": list(block.symbols),
        "bars": bars,
        "first_open_time": int(block.open_time[0]) if bars else None,
        "last_open_time": int(block.open_time[-1]) if bars else None,
    }


def _version(draft: Path, manifest: dict[str, Any]) -> str:
    """Last open time and a hash of the content: the same features published twice are one version."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True, default=str).encode())
    for name in (_VALUES, _TIMES):
        with (draft / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{manifest['last_open_time'] or 0}-{digest.hexdigest()[:12]}"


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _prune(parent: Path, keep: Path) -> None:
    """Remove all but the newest versions; `keep` stays in any case."""
    versions = sorted(
        (p for p in parent.iterdir() if p.is_dir() and not p.name.startswith(".") and p != keep),
        key=lambda p: p.stat().st_mtime,
    )
    for old in versions[: max(len(versions) - (_KEEP - 1), 0)]:
        shutil.rmtree(old, ignore_errors=True)
