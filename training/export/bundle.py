"""Model bundles: `models/<version>/` with exported files and a manifest, complete at every moment.

A bundle is filled in a hidden folder and appears by one rename. Its files never change afterwards; more may
be added, each in place before the manifest that lists it is swapped. `models/current` names the version to
serve. Killed at any moment, a writer leaves the former state or the new one; what it left half-done is not
listed and is removed by the next one. Writers take turns by a lock on `models/.lock`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.errors import TrainingError, first_fault
from training.export.manifest import FORMS, FileEntry, Manifest, describe
from training.export.parity import ParityReport
from training.files import file_sha256, flush_to_disk, publish, write_atomically
from training.locks import waiting
from training.network.forecaster_files import META_FILE, WEIGHTS_FILE, load_meta

MODELS_FOLDER = "models"
MANIFEST_FILE = "manifest.json"
CURRENT_FILE = "current"
_STAGING = ".staging-"
_LOCK_FILE = ".lock"


class BundleError(TrainingError):
    """A bundle is absent, damaged, or must not be changed."""


def create_bundle(
    home: Path,
    forecaster_dir: Path,
    *,
    files: Sequence[Path] = (),
    parity: Mapping[str, ParityReport] | None = None,
    metrics: Mapping[str, Any] | None = None,
    created_at: int,
    code_version: str,
) -> Path:
    """Publish a bundle of a trained forecaster.

    The version is ``<created_at as YYYYMMDDThhmmssZ>-<hash of the forecaster>``. The same forecaster at the
    same time is the same version: if it exists already, only files that it lacks are added, so that a run
    repeated after an interruption is no error.

    Parameters
    ----------
    home
        The platform's home folder.
    forecaster_dir
        Folder of the trained forecaster.
    files
        Exported files to copy, named as they are to be named in the bundle.
    parity
        Parity reports by file name, also of files that were left out.
    metrics
        Figures of the evaluation, JSON values.
    created_at
        When the forecaster was trained, ms since epoch, by the exchange's clock.
    code_version
        Version of the code that made it.

    Returns
    -------
    Path
        The bundle's folder.

    Raises
    ------
    BundleError
        A file is absent, or a published file would change.
    ForecasterError
        The forecaster cannot be used.
    """
    meta = load_meta(forecaster_dir)
    identity = _forecaster_sha256(forecaster_dir)
    models = Path(home) / MODELS_FOLDER
    bundle = bundle_folder(home, forecaster_dir, created_at)
    with waiting(models / _LOCK_FILE):
        for left in models.glob(f"{_STAGING}*"):
            shutil.rmtree(left)
        if not bundle.exists():
            manifest = describe(
                meta,
                model_version=bundle.name,
                created_at=created_at,
                code_version=code_version,
                forecaster_sha256=identity,
                metrics=dict(metrics or {}),
            )
            staging = models / f"{_STAGING}{bundle.name}"
            staging.mkdir()
            _add(staging, manifest, files, parity)
            flush_to_disk(staging)
            staging.rename(bundle)
            flush_to_disk(models)
        else:
            _add(bundle, read_manifest(bundle), files, parity)
    return bundle


def bundle_folder(home: Path, forecaster_dir: Path, created_at: int) -> Path:
    """Return where the bundle of a trained forecaster lies, or would lie; see `create_bundle`."""
    moment = datetime.fromtimestamp(created_at / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path(home) / MODELS_FOLDER / f"{moment}-{_forecaster_sha256(forecaster_dir)[:8]}"


def add_file(bundle: Path, file: Path, *, parity: Mapping[str, ParityReport] | None = None) -> Manifest:
    """Copy an exported file into a published bundle and list it in the manifest.

    Returns
    -------
    Manifest
        The manifest as it is now. Adding a file that is there already with the same content changes nothing.

    Raises
    ------
    BundleError
        The bundle or the file is absent, or the file is there with another content.
    """
    bundle = Path(bundle)
    with waiting(bundle.parent / _LOCK_FILE):
        return _add(bundle, read_manifest(bundle), [file], parity)


def read_manifest(bundle: Path) -> Manifest:
    """Read the manifest of a bundle.

    Raises
    ------
    BundleError
        It is absent or cannot be read.
    """
    path = Path(bundle) / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(
            "there is no model bundle here",
            where=str(path),
            remedy="materialise `onnx_model` first: klinecast run train_and_export",
        ) from error
    except ValidationError as error:
        raise BundleError(
            f"the manifest cannot be used: {first_fault(error)}",
            where=str(path),
            remedy="restore the bundle, or export the model again",
        ) from error


def verify_files(bundle: Path) -> Manifest:
    """Compare the files of a bundle with the hashes in its manifest.

    Raises
    ------
    BundleError
        Names the first file that is absent or has another hash, with both hashes.
    """
    manifest = read_manifest(bundle)
    for name, entry in manifest.files.items():
        path = Path(bundle) / name
        found = file_sha256(path) if path.is_file() else "no file"
        if found != entry.sha256:
            raise BundleError(
                f"{name} is not the published file: SHA-256 {entry.sha256} expected, {found} found",
                where=str(path),
                remedy="restore the file from a copy, or set another version current and export again",
            )
    return manifest


def is_published(bundle: Path, manifest: Manifest, name: str) -> bool:
    """Tell whether a file of a bundle is there, and is the one that its manifest lists."""
    entry, file = manifest.files.get(name), Path(bundle) / name
    return entry is not None and file.is_file() and file_sha256(file) == entry.sha256


def list_bundles(home: Path) -> list[str]:
    """Versions that are published, oldest first."""
    models = Path(home) / MODELS_FOLDER
    if not models.is_dir():
        return []
    return sorted(p.name for p in models.iterdir() if p.name[0] != "." and (p / MANIFEST_FILE).is_file())


def set_current(home: Path, version: str) -> None:
    """Make a version the one that is served, after checking its files.

    Raises
    ------
    BundleError
        The version is not published, or a file of it is damaged; the former version stays current.
    """
    models = Path(home) / MODELS_FOLDER
    if version not in list_bundles(home):
        raise BundleError(
            f"there is no model version {version!r}",
            where=str(models),
            remedy=f"choose one of: {', '.join(list_bundles(home)) or 'none is published yet'}",
        )
    verify_files(models / version)
    with waiting(models / _LOCK_FILE):
        write_atomically(models / CURRENT_FILE, json.dumps({"version": version}).encode())


def read_current(home: Path) -> Path | None:
    """Return the folder of the version that is served, or None if none was set yet.

    Raises
    ------
    BundleError
        The pointer is damaged or points at nothing.
    """
    models = Path(home) / MODELS_FOLDER
    pointer = models / CURRENT_FILE
    try:
        version = json.loads(pointer.read_bytes())["version"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(
            "the pointer to the current model cannot be read",
            where=str(pointer),
            remedy="set a version again",
        ) from error
    if version not in list_bundles(home):
        raise BundleError(
            f"the current model version {version!r} is not there",
            where=str(pointer),
            remedy="set another version, or restore the folder",
        )
    return models / version


def _add(
    folder: Path, manifest: Manifest, files: Sequence[Path], parity: Mapping[str, ParityReport] | None
) -> Manifest:
    """Copy files into a folder, then write the manifest that lists them; the caller holds the lock."""
    entries = dict(manifest.files)
    for file in files:
        entries[file.name] = _copy(file, folder, manifest.files.get(file.name))
    reports = {**manifest.parity, **(parity or {})}
    changed = manifest.model_copy(update={"files": entries, "parity": reports})
    if changed != manifest or not (folder / MANIFEST_FILE).exists():
        write_atomically(folder / MANIFEST_FILE, changed.model_dump_json(indent=1).encode())
    return changed


def _copy(file: Path, folder: Path, published: FileEntry | None) -> FileEntry:
    """Copy one file durably, unless it is there; its entry is taken of the copy."""
    if not file.is_file() or file.name == MANIFEST_FILE or file.name.startswith("."):
        raise BundleError(
            f"{file.name} is not a file for a bundle", where=str(file), remedy="give an exported model file"
        )
    if published is not None and published.sha256 != file_sha256(file):
        raise BundleError(
            f"{file.name} is published with other content; a published file never changes",
            where=str(folder),
            remedy="create a new version for the new file",
        )
    part = folder / f".{file.name}.part"
    try:
        shutil.copyfile(file, part)
        entry = FileEntry(sha256=file_sha256(part), bytes=part.stat().st_size, form=FORMS.get(file.name, ""))
        publish(part, folder / file.name)
    finally:
        part.unlink(missing_ok=True)
    return entry


def _forecaster_sha256(forecaster_dir: Path) -> str:
    parts = [file_sha256(Path(forecaster_dir) / name) for name in (META_FILE, WEIGHTS_FILE)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()
