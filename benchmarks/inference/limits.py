"""Where the quantised files reach their limits: input far from what they were made on, and small networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inference.forecasters import config_of, convert, trained
from benchmarks.inference.measure import sizes_of
from benchmarks.inference.page import LABELS
from market.store import Panel
from training.export.exported_files import open_exported
from training.export.reference_outputs import real_windows
from training.network.forecaster_files import ForecasterMeta, load_meta

STRETCHES = (1, 2, 4, 8)
WIDTHS = (8, 16, 24, 32, 64)
_COMPARED = 512
_QUANTISED = {"onnx_int8": "onnx_f32", "tflite_dynamic": "tflite", "tflite_int8": "tflite"}
_ENDS = (50, 100)


def limits(panel: Panel, *, epochs: int, width: int, folder: Path) -> dict[str, Any]:
    """Ask the files about stretched windows, and convert networks of several widths.

    Returns
    -------
    dict
        `stretched`: by factor and form, median and largest |v - v_float| / v_float of the volatility, and the share of
        windows with the same class as the float file; `smaller_by`: by width and form, over the float file.
    """
    data = trained(panel, config_of(width, epochs=epochs), folder / "asked")
    files = convert(folder / "asked" / "forecaster", folder / "asked", data)
    meta, windows = load_meta(folder / "asked" / "forecaster"), real_windows(data, _COMPARED)
    return {
        "stretched": {factor: _errors(files, stretched(windows, meta, factor)) for factor in STRETCHES},
        "smaller_by": {each: _savings(panel, each, folder / f"width-{each}") for each in WIDTHS},
    }


def stretched(windows: np.ndarray, meta: ForecasterMeta, factor: float) -> np.ndarray:
    """Windows (n, window, F) moved away from the mean of the training span, `factor` times as far as they are.

    The volatility that scales the answers stays within what occurs: it is no deviation, and is never negative.
    """
    mean = np.asarray(meta.normalisation.mean)
    moved = mean + factor * (windows - mean)
    moved[..., meta.volatility_index] = windows[..., meta.volatility_index]
    return np.ascontiguousarray(moved, np.float32)


def _errors(files: dict[str, Path], windows: np.ndarray) -> dict[str, dict[str, float]]:
    found = {}
    for form, whole in _QUANTISED.items():
        said, true = open_exported(files[form])(windows), open_exported(files[whole])(windows)
        off = np.abs(said["volatility"] - true["volatility"]) / true["volatility"]
        median, largest = np.percentile(off, _ENDS)
        same = (said["direction"].argmax(axis=1) == true["direction"].argmax(axis=1)).mean()
        found[form] = {"median": float(median), "largest": float(largest), "same": float(same)}
    return found


def _savings(panel: Panel, width: int, folder: Path) -> dict[str, float]:
    """Shares saved by a network that is hardly trained: sizes do not depend on how well it is."""
    data = trained(panel, config_of(width, epochs=1, max_windows=512, validation_windows=64), folder)
    sizes = sizes_of(convert(folder / "forecaster", folder, data))
    return {form: 1 - sizes[form] / sizes[whole] for form, whole in _QUANTISED.items()}


def limits_page(found: dict[str, Any]) -> str:
    """Two tables, Markdown."""
    lines = ["| stretched | file | volatility off, median | largest | same class |", "|---|---|---|---|---|"]
    for factor, forms in found["stretched"].items():
        lines += [
            f"| {factor} times | {LABELS[form]} | {one['median']:.2%} | {one['largest']:.2%} | {one['same']:.2%} |"
            for form, one in forms.items()
        ]
    lines += [
        "",
        f"| width | {' | '.join(LABELS[form] for form in _QUANTISED)} |",
        f"|{'---|' * (1 + len(_QUANTISED))}",
    ]
    for width, forms in found["smaller_by"].items():
        lines.append(f"| {width} | {' | '.join(f'{share:.1%}' for share in forms.values())} |")
    return "\n".join(lines) + "\n"
