"""The record of which exported form of a bundle is run here: where it lies, what it rests upon, when it holds.

Read and written without any runtime of models being loaded.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from serving.bundle import DEFAULT_MODEL_FILE, Bundle

logger = logging.getLogger(__name__)

CHOICE_FILE: Final = "serving_form.json"
_told: set[Path] = set()
"""Records that could not be written, of which the log was told."""


def candidates(bundle: Bundle) -> list[str]:
    """Files with the interface of the float ONNX file that kept the bound of their comparison, that file first."""
    reports = bundle.manifest.get("parity", {})
    good = [
        name
        for name in bundle.files
        if name != DEFAULT_MODEL_FILE and _passed(reports.get(name)) and _is_model(name)
    ]
    return [bundle.model_file, *sorted(set(good) - {bundle.model_file})]


def chosen_form(bundle: Bundle) -> str | None:
    """Return the file that serving runs, nothing being measured; None if it will measure first."""
    names = candidates(bundle)
    if "serving_file" in bundle.manifest["metrics"] or names == [bundle.model_file]:
        return bundle.model_file
    kept = kept_record(bundle.folder / CHOICE_FILE, facts_of(bundle, names))
    if kept is not None:
        return str(kept["chosen"])
    return None if os.access(bundle.folder, os.W_OK) else bundle.model_file


def _passed(report: Any) -> bool:
    """Whether a comparison with the Keras model was made, kept its bound, and fed the file as all others."""
    if not isinstance(report, dict) or report.get("int8") is not None:
        return False
    tolerance, least = report.get("tolerance"), report.get("min_agreement")
    if tolerance is not None:
        return max(report["max_abs_difference"].values(), default=np.inf) <= tolerance
    return least is not None and report["agreement"] >= least


def _is_model(name: str) -> bool:
    return name.endswith((".onnx", ".tflite"))


def _machine() -> dict[str, Any]:
    """What the speed of a model depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
    }


def facts_of(bundle: Bundle, names: list[str]) -> dict[str, Any]:
    """What a choice rests upon."""
    return {
        "machine": _machine(),
        "runtimes": {name: version(name) for name in ("onnxruntime", "ai-edge-litert")},
        "files": {name: bundle.files[name] for name in names},
    }


def kept_record(path: Path, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of a choice, if there is a whole one that rests upon these facts."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or any(record.get(name) != value for name, value in facts.items()):
        return None
    chosen, forms = record.get("chosen"), record.get("forms")
    if not isinstance(forms, dict) or not all(isinstance(form, dict) for form in forms.values()):
        return None
    return record if isinstance(chosen, str) and chosen in forms else None


def keep_record(path: Path, record: Mapping[str, Any] | None) -> bool:
    """Write the record whole or not at all, or without one see whether that can be; say once where it cannot."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w") as file:
            if record is None:
                return True
            json.dump(record, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        return True
    except OSError as error:
        if path not in _told:
            _told.add(path)
            logger.warning(
                "%s is run, not the fastest file: no choice can be kept: %s", DEFAULT_MODEL_FILE, error
            )
        return False
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
