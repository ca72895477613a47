"""Comparing and timing a forecaster's exported forms."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from training.export.exported_files import open_exported
from training.export.parity import (
    FLOAT_TOLERANCE,
    MIN_AGREEMENT,
    ParityReport,
    compare,
    ensure_reference,
)
from training.network.forecaster_files import load_forecaster

WINDOWS = 300
ROUNDS = 15
CHUNK = 20
FLOAT_FORMS = ("onnx_f32", "tflite")


def compare_all(files: dict[str, Path], forecaster: Path, windows: np.ndarray) -> dict[str, ParityReport]:
    """Hold every form against the Keras model, with the bound that publishing sets."""
    reference = ensure_reference(forecaster, windows)
    return {
        form: compare(
            path,
            reference,
            FLOAT_TOLERANCE if form in FLOAT_FORMS else None,
            min_agreement=None if form in FLOAT_FORMS else MIN_AGREEMENT,
        )
        for form, path in files.items()
    }


def sizes_of(files: dict[str, Path]) -> dict[str, int]:
    """Bytes of each form."""
    return {form: path.stat().st_size for form, path in files.items()}


def timed(files: dict[str, Path], forecaster: Path, windows: np.ndarray) -> dict[str, float]:
    """Median ms for all windows, of each form and of Keras, one after the other in every round.

    `keras predict_each` is the sum of one call per window; the calls are spread over the rounds.
    """
    windows = np.ascontiguousarray(windows)
    model, _ = load_forecaster(forecaster)
    with ThreadPoolExecutor(2) as pool:
        calls: dict[str, Callable[[], Any]] = {form: _whole(path, windows) for form, path in files.items()}
        calls |= {f"{form}, two threads": _pooled(path, windows, pool) for form, path in files.items()}
        calls["keras predict_batched"] = lambda: model.predict(windows, batch_size=len(windows), verbose=0)
        times: dict[str, list[float]] = {name: [] for name in calls}
        each = 0.0
        for name in calls:
            calls[name]()  # the first call compiles and warms up
        model.predict(windows[:1], verbose=0)
        for at in range(ROUNDS):
            for name, call in calls.items():
                times[name].append(_ms(call))
            share = range(at, len(windows), ROUNDS)
            each += sum(_ms(lambda k=k: model.predict(windows[k : k + 1], verbose=0)) for k in share)  # type: ignore[misc]
    return {**{name: statistics.median(found) for name, found in times.items()}, "keras predict_each": each}


def _whole(path: Path, windows: np.ndarray) -> Callable[[], Any]:
    predict = open_exported(path)
    return lambda: predict(windows)


def _pooled(path: Path, windows: np.ndarray, pool: ThreadPoolExecutor) -> Callable[[], Any]:
    """Two threads, each with a session of its own on one thread, and every other chunk."""
    opened = [open_exported(path), open_exported(path)]
    chunks = [windows[k : k + CHUNK] for k in range(0, len(windows), CHUNK)]

    def half(which: int) -> list[dict[str, np.ndarray]]:
        return [opened[which](chunk) for chunk in chunks[which::2]]

    return lambda: list(pool.map(half, (0, 1)))


def _ms(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)
