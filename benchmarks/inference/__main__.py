"""How fast, how small and how true the exported forecaster is, against Keras.

    python -m benchmarks.inference [--data DIR] [--interval 15m] [--width N] [--epochs N] [--json] [--write FILE]
    python -m benchmarks.inference [--data DIR] [--interval 15m] [--width N] [--epochs N] --limits [--json]

Trains a forecaster of the default size, on the Parquet bars in DIR (`<SYMBOL>_<interval>.parquet`, or a folder of such
folders) or, without DIR, on a seeded random walk, exports it and predicts windows of its test split. Each figure is
measured as it is named: `predict_each` really calls Keras `predict` once per window. What is compared takes turns, and
medians over the rounds are given, in ms of wall time for 300 windows.

- `predict_each_ratio`, `predict_batched_ratio`: Keras `predict` per symbol, and once for all, over the `fastest` form,
  which is one of `ms`: a file in one call on one thread, or in chunks over two threads (`..., two threads`). Keras
  takes as many threads as it likes
- `onnx_f32_ms_300`, `onnx_int8_ms_300`, `tflite_ms_300`, `tflite_dynamic_ms_300`, `tflite_int8_ms_300`: one call, one
  thread
- `onnx_int8_size_share`, `tflite_int8_size_share`, `tflite_dynamic_size_share`: over the float32 file of that format;
  `onnx_int8_keras_share`, `tflite_int8_keras_share`: over the saved Keras model; `wide_...`: of a model of width 128
- `int8_agreement`, `tflite_dynamic_agreement`, `tflite_int8_agreement`: share of windows with the same most probable
  class as Keras; `int8_decision_flips`, `tflite_int8_decision_flips`: share in which a trade at a probability of 0.4
  would be another one; `int8_quantile_error`, `tflite_int8_quantile_error`: mean difference of a quantile, in
  volatilities over the horizon
- `parity_onnx`, `parity_tflite`: largest difference from Keras, as training/export/parity.py defines it
- `published`: which files keep their bounds, and would be in a bundle

`--limits` measures something else: how far the quantised files are off for windows stretched away from the mean, and
how much smaller they are than the float file at several widths (benchmarks/inference/limits.py).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.inference.forecasters import (
    WIDE,
    config_of,
    convert,
    random_panel,
    real_panel,
    save_keras_model,
    trained,
)
from benchmarks.inference.limits import limits, limits_page
from benchmarks.inference.measure import WINDOWS, compare_all, sizes_of, timed
from benchmarks.inference.page import page
from market.store import Panel
from training.export.parity import ParityReport
from training.export.reference_outputs import real_windows

COMPARED = 2048
REMARKS = "\n## "
"""What follows the first of these on a page was written by a person, and stays."""


def measure(panel: Panel, *, epochs: int, width: int, wide: bool) -> dict[str, Any]:
    """Train, export, compare, time."""
    with tempfile.TemporaryDirectory(prefix="klinecast-benchmark-") as name:
        folder = Path(name)
        data = trained(panel, config_of(width, epochs=epochs), folder)
        keras_file = save_keras_model(folder / "forecaster", folder / "model.keras")
        files = convert(folder / "forecaster", folder, data)
        windows = real_windows(data, COMPARED)
        reports = compare_all(files, folder / "forecaster", windows)
        sizes = {**sizes_of(files), "keras": keras_file.stat().st_size}
        times = timed(files, folder / "forecaster", windows[:: len(windows) // WINDOWS][:WINDOWS])
        figures = {**_figures(times, sizes, reports), "windows": WINDOWS, "width": width, "epochs": epochs}
        return {**figures, **(_wide_sizes(panel, folder / "wide") if wide else {})}


def _wide_sizes(panel: Panel, folder: Path) -> dict[str, Any]:
    """Sizes of a model of width `WIDE`; sizes do not depend on how well it is trained, so it hardly is."""
    data = trained(panel, config_of(WIDE, epochs=1, max_windows=512, validation_windows=64), folder)
    sizes = sizes_of(convert(folder / "forecaster", folder, data))
    return {
        "wide_onnx_int8_size_share": sizes["onnx_int8"] / sizes["onnx_f32"],
        "wide_tflite_int8_size_share": sizes["tflite_int8"] / sizes["tflite"],
        "wide_bytes": sizes,
    }


def _figures(
    times: dict[str, float], sizes: dict[str, int], reports: dict[str, ParityReport]
) -> dict[str, Any]:
    forms = {name: ms for name, ms in times.items() if not name.startswith("keras")}
    fastest = min(forms, key=lambda name: forms[name])
    shares = {
        f"{form}_size_share": sizes[form] / sizes[whole]
        for form, whole in (
            ("onnx_int8", "onnx_f32"),
            ("tflite_int8", "tflite"),
            ("tflite_dynamic", "tflite"),
        )
    }
    int8, integers = reports["onnx_int8"], reports["tflite_int8"]
    return {
        "predict_each_ratio": times["keras predict_each"] / forms[fastest],
        "predict_batched_ratio": times["keras predict_batched"] / forms[fastest],
        "fastest": fastest,
        **{f"{form}_ms_300": times[form] for form in reports},
        **shares,
        **{f"{form}_keras_share": sizes[form] / sizes["keras"] for form in ("onnx_int8", "tflite_int8")},
        "int8_agreement": int8.agreement,
        "tflite_dynamic_agreement": reports["tflite_dynamic"].agreement,
        "tflite_int8_agreement": integers.agreement,
        "int8_decision_flips": (int8.decision_flips or {})["threshold"],
        "int8_quantile_error": int8.mean_abs_difference["quantiles"],
        "tflite_int8_decision_flips": (integers.decision_flips or {})["threshold"],
        "tflite_int8_quantile_error": integers.mean_abs_difference["quantiles"],
        "parity_onnx": max(reports["onnx_f32"].max_abs_difference.values()),
        "parity_tflite": max(reports["tflite"].max_abs_difference.values()),
        "published": [form for form, report in reports.items() if report.passed],
        "ms": times,
        "bytes": sizes,
        "parity": {form: report.model_dump(mode="json") for form, report in reports.items()},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inference", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--data", type=Path, help="folder of <SYMBOL>_<interval>.parquet, or of such folders")
    parser.add_argument("--interval", default="15m")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--width", type=int, help="of the network; by default that of ForecasterConfig")
    parser.add_argument("--no-wide", action="store_true", help=f"leave out the sizes of a width of {WIDE}")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--write", type=Path, help="write the figures as a page, such as docs/inference.md")
    parser.add_argument(
        "--limits", action="store_true", help="odd input and small networks, and nothing else"
    )
    given = parser.parse_args(arguments)
    panel = real_panel(given.data, given.interval) if given.data else random_panel(given.interval)
    width = given.width or config_of(None).width
    if given.limits:
        with tempfile.TemporaryDirectory(prefix="klinecast-benchmark-") as name:
            found = limits(panel, epochs=given.epochs, width=width, folder=Path(name))
        sys.stdout.write(json.dumps(found) + "\n" if given.json else limits_page(found))
        return
    figures = measure(panel, epochs=given.epochs, width=width, wide=not given.no_wide)
    figures["data"] = f"{given.data.name}, {panel.interval}" if given.data else "random walk"
    if given.write:
        before = given.write.read_text() if given.write.is_file() else ""
        remarks = before[before.index(REMARKS) :] if REMARKS in before else ""
        given.write.write_text(page(figures) + remarks)
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    for name, value in figures.items():
        if not isinstance(value, dict):
            sys.stdout.write(
                f"{name:32} {value:.6g}\n" if isinstance(value, float) else f"{name:32} {value}\n"
            )


if __name__ == "__main__":
    main()
