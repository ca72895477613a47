"""The figures of a forecaster on its test split, kept beside it with what they were made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from assets.state_files import read_json, write_json
from training.code_identity import identity

METRICS_FILE = "metrics.json"
_RECORD = "kept"
"""In the file: what the figures were made from, and their hash."""


def kept_metrics(folder: Path) -> dict[str, Any]:
    """Return the figures that were kept beside a forecaster; empty where it was not judged."""
    found = read_json(folder / METRICS_FILE) or {}
    found.pop(_RECORD, None)
    return found


def keep_metrics(folder: Path, metrics: dict[str, Any], *, weights_sha256: str, training_set_id: str) -> None:
    """Write figures down beside the forecaster that has these weights and was judged on this training set."""
    record = _record(metrics, weights_sha256, training_set_id)
    write_json(folder / METRICS_FILE, metrics | {_RECORD: record})


def judged_already(folder: Path, *, weights_sha256: str, training_set_id: str) -> dict[str, Any] | None:
    """Return the figures of the same forecaster by the same code, if they are as they were written."""
    found = read_json(folder / METRICS_FILE) or {}
    record = found.pop(_RECORD, None)
    return found if record == _record(found, weights_sha256, training_set_id) else None


def _record(metrics: dict[str, Any], *parts: str) -> dict[str, str]:
    content = json.dumps(metrics, sort_keys=True).encode()
    return {"made_from": identity("figures", *parts), "sha256": hashlib.sha256(content).hexdigest()}
