"""Reading a model bundle: one folder a version, `manifest.json` in it, every file held against its SHA-256.

Nothing of klinecast is needed to use a bundle; this module is what any consumer would write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from serving.errors import BundleError

FORMAT_VERSION: Final = 1
"""Version of the manifest that this code reads."""

MODELS_FOLDER: Final = "models"
CURRENT_FILE: Final = "current"
MANIFEST_FILE: Final = "manifest.json"
DEFAULT_MODEL_FILE: Final = "model.onnx"

_EXPORT: Final = "export the model again: klinecast run train_and_export"
_RESTORE: Final = f"restore the file from a backup, or {_EXPORT}"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    folder
        Where it lies.
    version
        Its model version.
    feature_names
        F features in the order of the model's input.
    window
        Bars in one input window.
    horizon
        Bars ahead that the return is predicted for.
    classes, quantiles
        Meaning of the columns of the outputs `direction` and `quantiles`.
    intervals
        Intervals that the model was made for.
    outputs
        Names of the model's outputs; a bundle made before there was `volatility` has no such output.
    model_file
        File that serving runs.
    files
        Name to hex SHA-256 of every file.
    manifest
        Everything the manifest says.
    """

    folder: Path
    version: str
    feature_names: tuple[str, ...]
    window: int
    horizon: int
    classes: tuple[str, ...]
    quantiles: tuple[float, ...]
    intervals: tuple[str, ...]
    outputs: tuple[str, ...]
    model_file: str
    files: Mapping[str, str]
    manifest: Mapping[str, Any] = field(repr=False)

    def read(self, name: str) -> bytes:
        """Return a file's bytes, held against its hash: what is run is what was verified.

        Raises
        ------
        BundleError
            The file is absent, unreadable or not the one described.
        """
        path = self.folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from error
        _compare(path, self.files[name], hashlib.sha256(content).hexdigest())
        return content


def load_bundle(home: Path, version: str | None = None) -> Bundle:
    """Load and verify a bundle.

    Parameters
    ----------
    home
        KLINECAST_HOME, whose bundles lie in ``models/<version>/``; or a bundle's own folder.
    version
        Which one; by default the one that ``models/current`` names. Not for a bundle's own folder.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        There is no such bundle, its manifest lacks something or is of another format, or a file's SHA-256 is
        not the manifest's.
    """
    folder = _folder_of(Path(home), version)
    manifest = _read_manifest(folder)
    files = _verify_files(folder, _entry(folder, manifest, "files", dict))
    model_file = str(_entry(folder, manifest, "metrics", dict).get("serving_file", DEFAULT_MODEL_FILE))
    if model_file not in files:
        raise _manifest_error(folder, f"the file to serve, {model_file!r}, is not among its files")
    bundle = Bundle(
        folder=folder,
        version=_entry(folder, manifest, "model_version", str),
        feature_names=_texts(folder, manifest, "feature_names"),
        window=_positive(folder, manifest, "window"),
        horizon=_positive(folder, manifest, "horizon"),
        classes=_texts(folder, manifest, "classes"),
        quantiles=_levels(folder, manifest),
        intervals=_texts(folder, manifest, "intervals"),
        outputs=_outputs(folder, manifest),
        model_file=model_file,
        files=files,
        manifest=manifest,
    )
    if version is not None and bundle.version != version:
        raise _manifest_error(folder, f"it describes version {bundle.version!r}, not {version!r}")
    return bundle


def current_version(home: Path) -> str:
    """Return the version that ``models/current`` names.

    Raises
    ------
    BundleError
        No model was exported yet, or the pointer cannot be read.
    """
    pointer = Path(home) / MODELS_FOLDER / CURRENT_FILE
    try:
        version = json.loads(pointer.read_bytes())["version"]
    except FileNotFoundError as error:
        raise BundleError(
            "no model has been exported yet", where=str(pointer), remedy="run: klinecast run train_and_export"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"the pointer to the current model cannot be read: {error}",
            where=str(pointer),
            remedy=_EXPORT,
        ) from error
    # The pointer is a file that anyone may edit; it must not lead out of the folder of bundles.
    if not isinstance(version, str) or not version or Path(version).name != version:
        raise BundleError(
            f"the pointer to the current model names {version!r}, which is no version",
            where=str(pointer),
            remedy=_EXPORT,
        )
    return version


def _folder_of(home: Path, version: str | None) -> Path:
    if (home / MANIFEST_FILE).is_file():
        return home
    version = current_version(home) if version is None else version
    folder = home / MODELS_FOLDER / version
    if Path(version).name != version or not (folder / MANIFEST_FILE).is_file():
        there = sorted(path.parent.name for path in (home / MODELS_FOLDER).glob(f"*/{MANIFEST_FILE}"))
        raise BundleError(
            f"there is no model bundle of version {version!r}",
            where=str(folder / MANIFEST_FILE),
            remedy=f"use one of {', '.join(there)}" if there else "run: klinecast run train_and_export",
        )
    return folder


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise _manifest_error(folder, f"it is not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise _manifest_error(folder, "it is not a JSON object")
    found = manifest.get("format_version")
    if found != FORMAT_VERSION:
        raise BundleError(
            f"the bundle has format_version {found!r}, {FORMAT_VERSION} expected",
            where=str(path),
            remedy="export the model with this klinecast, or use the version that wrote the bundle",
        )
    return manifest


def _verify_files(folder: Path, described: Mapping[str, Any]) -> dict[str, str]:
    hashes: dict[str, str] = {}
    for name, facts in described.items():
        if Path(name).name != name or not isinstance(facts, dict) or not isinstance(facts.get("sha256"), str):
            raise _manifest_error(folder, f"files.{name} has no sha256, or its name is not that of a file")
        path = folder / name
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(path, error) from error
        _compare(path, facts["sha256"], found)
        hashes[name] = facts["sha256"]
    return hashes


def _compare(path: Path, expected: str, found: str) -> None:
    if found != expected:
        raise BundleError(
            f"{path.name} is not the file that was exported: SHA-256 {expected} expected, {found} found",
            where=str(path),
            remedy=_RESTORE,
        )


def _entry(folder: Path, manifest: Mapping[str, Any], name: str, kind: type) -> Any:
    value = manifest.get(name)
    if isinstance(value, bool) or not isinstance(value, kind):
        found = "nothing" if value is None else f"{value!r}"
        raise _manifest_error(folder, f"{name}: {kind.__name__} expected, {found} found")
    return value


def _texts(folder: Path, manifest: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = _entry(folder, manifest, name, list)
    if not values or not all(isinstance(value, str) for value in values) or len(set(values)) != len(values):
        raise _manifest_error(folder, f"{name}: distinct names expected, {values!r} found")
    return tuple(values)


def _positive(folder: Path, manifest: Mapping[str, Any], name: str) -> int:
    value: int = _entry(folder, manifest, name, int)
    if value < 1:
        raise _manifest_error(folder, f"{name}: at least 1 expected, {value} found")
    return value


def _levels(folder: Path, manifest: Mapping[str, Any]) -> tuple[float, ...]:
    values = _entry(folder, manifest, "quantiles", list)
    if not values or not all(isinstance(value, float) and 0 < value < 1 for value in values):
        raise _manifest_error(folder, f"quantiles: levels between 0 and 1 expected, {values!r} found")
    return tuple(values)


def _outputs(folder: Path, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    described = _entry(folder, manifest, "outputs", list)
    names = tuple(str(output.get("name")) for output in described if isinstance(output, dict))
    if len(names) != len(described) or not {"direction", "quantiles"} <= set(names):
        raise _manifest_error(folder, f"outputs: direction and quantiles expected, {described!r} found")
    return names


def _manifest_error(folder: Path, problem: str) -> BundleError:
    return BundleError(
        f"the manifest of the model bundle cannot be used: {problem}",
        where=str(folder / MANIFEST_FILE),
        remedy=_RESTORE,
    )


def _unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"{path.name} of the model bundle cannot be read: {error.strerror or error}",
        where=str(path),
        remedy=_RESTORE,
    )
