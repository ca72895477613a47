"""Published features: one folder per version, read by memory mapping, never seen half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from kernels.catalogue import CATALOGUE_VERSION
from kernels.compute import FeatureBlock
from kernels.errors import KernelError

_KEEP = 2
_MANIFEST = "manifest.json"
_LATEST = "latest"


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
    draft = Path(tempfile.mkdtemp(dir=parent, prefix=".draft-"))
    try:
        _save(draft / "values.npy", np.ascontiguousarray(block.values, dtype=np.float32))
        _save(draft / "open_time.npy", np.asarray(block.open_time, dtype=np.int64))
        manifest = _manifest(block, interval, extra or {})
        version = _version(draft, manifest)
        _write(draft / _MANIFEST, json.dumps({**manifest, "version": version}, indent=1).encode())
        folder = parent / version
        draft.chmod(0o755)
        if not folder.exists():
            draft.replace(folder)
        _sync_folder(parent)
        pointer = parent / f".{_LATEST}-{os.getpid()}"
        _write(pointer, version.encode())
        pointer.replace(parent / _LATEST)
        _sync_folder(parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _prune(parent, keep=folder)
    return folder


def open_latest(home: Path, interval: str) -> FeatureBlock:
    """Map the latest features of an interval into memory, read-only.

    Raises
    ------
    KernelError
        Nothing was published, or what lies there does not fit together.
    """
    parent = home / "features" / interval
    try:
        version = (parent / _LATEST).read_text().strip()
    except FileNotFoundError:
        raise KernelError(
            f"no features of interval {interval!r} have been published",
            where=str(parent),
            remedy="materialise `features` first: klinecast run ingest, then klinecast run make_features",
        ) from None
    folder = parent / version
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        values = np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False)
        open_time = np.load(folder / "open_time.npy", mmap_mode="r", allow_pickle=False)
        names, symbols = tuple(manifest["names"]), tuple(manifest["symbols"])
    except (OSError, ValueError, KeyError) as error:
        raise KernelError(
            f"published features cannot be read: {error}",
            where=str(folder),
            remedy="materialise `features` anew: klinecast run make_features",
        ) from error
    if values.shape != (len(names), len(open_time), len(symbols)) or values.dtype != np.float32:
        raise KernelError(
            f"published features do not fit together: values {values.dtype} {values.shape}",
            where=str(folder),
            remedy="materialise `features` anew: klinecast run make_features",
        )
    return FeatureBlock(values, names, open_time, symbols)


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
    for name in ("values.npy", "open_time.npy"):
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
