"""Which of a bundle's exported forms to run: the one that is fastest here, by measurement.

A form is a candidate if its file passed the comparison with the Keras model and answers each window without
regard to the others of a chunk. The choice and its figures are kept beside the bundle's files, with the
machine and the runtimes that they hold for; on another machine, or with other runtimes, it is measured anew.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serving.bundle import DEFAULT_MODEL_FILE, Bundle
from serving.errors import ServingError
from serving.predictor import CHUNK, THREADS, Predictor

logger = logging.getLogger(__name__)

CHOICE_FILE: Final = "serving_form.json"
ENOUGH: Final = 0.9
"""Another form than the float ONNX file is taken if it needs at most this share of its time: below that, the
next measurement may say otherwise, and the float file is the one that everything else was judged with."""

_WINDOWS: Final = 10 * CHUNK
_ROUNDS: Final = 9


def with_fastest_form(bundle: Bundle) -> Bundle:
    """Return the bundle with `model_file` set to the form to run, measured now unless that is on record.

    A file that the manifest's metrics name as `serving_file` is a person's decision and stays.
    """
    if "serving_file" in bundle.manifest["metrics"]:
        return bundle
    return replace(bundle, model_file=str(form_choice(bundle)["chosen"]))


def form_choice(bundle: Bundle) -> dict[str, Any]:
    """Return the record of a choice: `chosen`, and `machine`, `runtimes`, `files`, `forms` that it rests upon.

    `forms` has per file the median `ms` for `windows` windows and whether it is `independent` of neighbours.
    """
    names = candidates(bundle)
    facts = {
        "machine": _machine(),
        "runtimes": {name: version(name) for name in ("onnxruntime", "ai-edge-litert")},
        "files": {name: bundle.files[name] for name in names},
    }
    if names == [bundle.model_file]:
        return {**facts, "forms": {}, "chosen": bundle.model_file}
    path = bundle.folder / CHOICE_FILE
    kept = _kept(path)
    if kept is not None and all(kept.get(name) == value for name, value in facts.items()):
        return kept
    forms = measure(bundle, names)
    record = {**facts, "windows": _WINDOWS, "threads": THREADS, "forms": forms, "chosen": choose(forms)}
    _keep(path, record)
    return record


def candidates(bundle: Bundle) -> list[str]:
    """Files with the interface of the float ONNX file that kept the bound of their comparison, that file first."""
    reports = bundle.manifest.get("parity", {})
    good = [
        name
        for name in bundle.files
        if name != DEFAULT_MODEL_FILE and _passed(reports.get(name)) and _is_model(name)
    ]
    return [bundle.model_file, *sorted(set(good) - {bundle.model_file})]


def choose(forms: Mapping[str, Mapping[str, Any]]) -> str:
    """Name the fastest form whose answers do not depend on neighbours; see `ENOUGH`."""
    default = next(iter(forms))
    fit = [name for name, facts in forms.items() if facts["independent"]]
    fastest = min(fit, key=lambda name: forms[name]["ms"], default=default)
    return fastest if forms[fastest]["ms"] <= ENOUGH * forms[default]["ms"] else default


def measure(bundle: Bundle, names: list[str]) -> dict[str, dict[str, Any]]:
    """Time forms on made-up windows, in turns, as serving runs them; one that cannot be run is left out."""
    windows = _windows(bundle)
    predictors: dict[str, Predictor] = {}
    for name in names:
        try:
            predictors[name] = Predictor(replace(bundle, model_file=name), THREADS)
        except ServingError as error:
            if name == bundle.model_file:
                raise
            logger.warning("%s is not considered for serving: %s", name, error)
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for at in range(_ROUNDS + 1):
        for name, predictor in predictors.items():
            start = time.perf_counter()
            predictor.predict(windows)
            if at:  # the first round warms up
                times[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {"ms": round(median(times[name]), 3), "independent": _independent(predictor, windows)}
        for name, predictor in predictors.items()
    }


def _independent(predictor: Predictor, windows: NDArray[np.float32]) -> bool:
    """Whether windows get the same bits among other neighbours, at other places."""
    among = predictor.predict(windows[:CHUNK])
    alone = [predictor.predict(windows[k : k + 1]) for k in range(0, CHUNK, 5)]
    return all(
        one.tobytes() == many[5 * at : 5 * at + 1].tobytes()
        for at, answer in enumerate(alone)
        for one, many in zip(answer.outputs().values(), among.outputs().values(), strict=True)
    )


def _windows(bundle: Bundle) -> NDArray[np.float32]:
    """Windows as spread as those of the training span, from a seed."""
    statistics = bundle.manifest.get("normalisation", {})
    mean, std = (np.asarray(statistics.get(name, default)) for name, default in (("mean", 0.0), ("std", 1.0)))
    noise = np.random.default_rng(0).normal(size=(_WINDOWS, bundle.window, len(bundle.feature_names)))
    return (mean + std * noise).astype(np.float32)


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


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    sound = isinstance(record, dict) and record.get("chosen") in record.get("files", {})
    return record if sound else None


def _keep(path: Path, record: Mapping[str, Any]) -> None:
    """Write the record whole or not at all; a bundle that is read-only is measured each time it is loaded."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w") as file:
            json.dump(record, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        logger.warning("the choice of the model file to run cannot be kept: %s", error)
    finally:
        part.unlink(missing_ok=True)
