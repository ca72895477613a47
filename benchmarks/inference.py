"""How fast, how small and how true the exported forecaster is, against Keras.

    python -m benchmarks.inference [--data DIR] [--interval 15m] [--json]

Trains a forecaster of the default size for one epoch, on the Parquet bars in DIR
(`<SYMBOL>_<interval>.parquet`) or, without DIR, on a seeded random walk, exports it and predicts windows of
its test split. Each figure is measured as it is named: `predict_each` really calls Keras `predict` once per
window. Times are medians, in ms of wall time for 300 windows; `predict_each` is one round of 300 calls.
Exported files run on one thread, Keras on as many as it takes.

- `predict_each_ratio`, `predict_batched_ratio`: Keras `predict` per symbol, and once for all, over the
  `fastest` form
- `onnx_f32_ms_300`, `onnx_int8_ms_300`, `tflite_ms_300`, `tflite_dynamic_ms_300`: one call with 300 windows
- `onnx_int8_size_share`: INT8 file over float32 file; `onnx_int8_keras_share`: over the saved Keras weights
- `tflite_dynamic_size_share`: dynamic-range file over float32 file; `tflite_int8_size_share`: null, as long
  as no full INT8 file is made
- `int8_agreement`, `tflite_dynamic_agreement`: share of windows with the same most probable class as Keras
- `parity_onnx`, `parity_tflite`: largest difference from Keras, as training/parity.py defines it
- `onnx_int8_batch_effect`: largest change of an INT8 probability when windows are sent one by one
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from kernels.catalogue import available, model_features
from kernels.compute import compute
from market.intervals import interval_ms
from training import export_onnx, export_tflite
from training.child_process import run_child
from training.config import ForecasterConfig
from training.dataset import build_training_set
from training.forecaster_files import WEIGHTS_FILE, load_forecaster
from training.parity import ParityReport, compare, ensure_reference, open_exported
from training.reference_outputs import real_windows
from training.training_set import TrainingSet

WINDOWS = 300
COMPARED = 2048
BARS = 6_000
PRICES = ("open", "high", "low", "close", "volume")
FILES = {
    "onnx_f32": "model.onnx",
    "onnx_int8": "model.int8.onnx",
    "tflite": "model.tflite",
    "tflite_dynamic": "model.dynamic.tflite",
}


def recorded_panel(folder: Path, interval: str) -> SimpleNamespace:
    """The last bars of all symbols that have this interval, on their common time grid."""
    frames = {
        p.name.rsplit("_", 1)[0]: pl.read_parquet(p) for p in sorted(folder.glob(f"*_{interval}.parquet"))
    }
    if not frames:
        raise SystemExit(f"no <SYMBOL>_{interval}.parquet in {folder}")
    end, step = min(int(frame["open_time"][-1]) for frame in frames.values()), interval_ms(interval)
    grid = np.arange(end - (BARS - 1) * step, end + step, step)
    rows = pl.DataFrame({"open_time": grid})
    joined = [
        rows.join(frame, on="open_time", how="left", maintain_order="left") for frame in frames.values()
    ]
    columns = {
        name: np.column_stack([frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for frame in joined])
        for name in PRICES
    }
    return SimpleNamespace(open_time=grid, symbols=tuple(frames), interval=interval, columns=columns)


def random_panel(interval: str, symbols: int = 10) -> SimpleNamespace:
    """A random walk with changing volatility."""
    random = np.random.default_rng(1)
    volatility = 2e-3 * np.exp(0.3 * np.cumsum(random.normal(0, 0.05, (BARS, symbols)), axis=0))
    close = 100 * np.exp(np.cumsum(random.normal(0, volatility), axis=0))
    before = np.vstack([close[:1], close[:-1]])
    reach = np.abs(random.normal(0, volatility, (2, BARS, symbols)))
    columns = {
        "open": before,
        "high": np.maximum(close, before) * (1 + reach[0]),
        "low": np.minimum(close, before) * (1 - reach[1]),
        "close": close,
        "volume": random.lognormal(3, 1, (BARS, symbols)),
    }
    grid = 1_735_689_600_000 + interval_ms(interval) * np.arange(BARS)
    names = tuple(f"WALK{i}" for i in range(symbols))
    return SimpleNamespace(open_time=grid, symbols=names, interval=interval, columns=columns)


def trained(panel: SimpleNamespace, config: ForecasterConfig, folder: Path) -> TrainingSet:
    """Build a training set in `folder`/set and train into `folder`/forecaster."""
    from training.fit import train

    block = compute(panel, available(model_features(), panel.columns))
    training_set = build_training_set(block, panel.columns["close"], panel.interval, config, folder / "set")
    train(training_set, config, folder / "forecaster")
    return training_set


def convert(forecaster: Path, folder: Path) -> dict[str, Path]:
    """Make all exported forms, good or not: the benchmark tells how good."""
    made = {name: folder / file for name, file in FILES.items()}
    onnx = {"forecaster": forecaster, "out": made["onnx_f32"], "int8": made["onnx_int8"]}
    tflite = {"forecaster": forecaster, "out": made["tflite"], "dynamic-range": made["tflite_dynamic"]}
    run_child(export_onnx.CONVERTER, onnx, doing="the conversion to ONNX", timeout=600)
    run_child(export_tflite.CONVERTER, tflite, doing="the conversion to TFLite", timeout=600)
    return made


def median_ms(call: Callable[[], Any], repeats: int) -> float:
    """Median wall time of a call after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def keras_times(forecaster: Path, windows: np.ndarray) -> dict[str, float]:
    """Keras `predict`, called per window and once for all of them."""
    model, _ = load_forecaster(forecaster)
    model.predict(windows[:1], verbose=0)

    def each() -> None:
        for k in range(len(windows)):
            model.predict(windows[k : k + 1], verbose=0)

    start = time.perf_counter()
    each()
    one_by_one = 1e3 * (time.perf_counter() - start)
    batched = median_ms(lambda: model.predict(windows, batch_size=len(windows), verbose=0), 7)
    return {"keras_predict_each_ms_300": one_by_one, "keras_predict_batched_ms_300": batched}


def exported_times(files: dict[str, Path], windows: np.ndarray) -> dict[str, float]:
    """One call with all windows, for each exported form."""
    times = {}
    for name, path in files.items():
        predict = open_exported(path)
        times[f"{name}_ms_300"] = median_ms(lambda predict=predict: predict(windows), 21)  # type: ignore[misc]
    return times


def batch_effect(file: Path, windows: np.ndarray) -> float:
    """Largest change of a probability between one call and a call per window."""
    predict = open_exported(file)
    alone = [predict(windows[k : k + 1])["direction"] for k in range(len(windows))]
    return float(np.abs(np.concatenate(alone) - predict(windows)["direction"]).max())


def measure(panel: SimpleNamespace, config: ForecasterConfig) -> dict[str, Any]:
    """Train, export, compare, time."""
    with tempfile.TemporaryDirectory(prefix="klinecast-benchmark-") as name:
        folder = Path(name)
        training_set = trained(panel, config, folder)
        forecaster = folder / "forecaster"
        files = convert(forecaster, folder)
        compared = real_windows(training_set, COMPARED)
        reference = ensure_reference(forecaster, compared)
        reports = {form: compare(path, reference, tolerance=None) for form, path in files.items()}
        windows = np.ascontiguousarray(compared[:: max(1, len(compared) // WINDOWS)][:WINDOWS])
        times = {**exported_times(files, windows), **keras_times(forecaster, windows)}
        sizes = {form: path.stat().st_size for form, path in files.items()}
        sizes["keras"] = (forecaster / WEIGHTS_FILE).stat().st_size
        effect = batch_effect(files["onnx_int8"], windows)
    return {**_figures(times, sizes, reports), "onnx_int8_batch_effect": effect, "windows": len(windows)}


def _figures(
    times: dict[str, float], sizes: dict[str, int], reports: dict[str, ParityReport]
) -> dict[str, Any]:
    fastest = min(FILES, key=lambda form: times[f"{form}_ms_300"])
    return {
        "predict_each_ratio": times["keras_predict_each_ms_300"] / times[f"{fastest}_ms_300"],
        "predict_batched_ratio": times["keras_predict_batched_ms_300"] / times[f"{fastest}_ms_300"],
        "fastest": fastest,
        **times,
        "onnx_int8_size_share": sizes["onnx_int8"] / sizes["onnx_f32"],
        "onnx_int8_keras_share": sizes["onnx_int8"] / sizes["keras"],
        "tflite_dynamic_size_share": sizes["tflite_dynamic"] / sizes["tflite"],
        "tflite_int8_size_share": None,
        "bytes": sizes,
        "int8_agreement": reports["onnx_int8"].agreement,
        "tflite_dynamic_agreement": reports["tflite_dynamic"].agreement,
        "parity_onnx": max(reports["onnx_f32"].max_abs_difference.values()),
        "parity_tflite": max(reports["tflite"].max_abs_difference.values()),
        "parity": {form: report.model_dump(mode="json") for form, report in reports.items()},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inference", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--data", type=Path, help="folder of <SYMBOL>_<interval>.parquet")
    parser.add_argument("--interval", default="15m")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--width", type=int, default=ForecasterConfig().width)
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    given = parser.parse_args(arguments)
    panel = recorded_panel(given.data, given.interval) if given.data else random_panel(given.interval)
    wide = (
        {} if given.width == ForecasterConfig().width else {"lstm_units": given.width, "ff": 2 * given.width}
    )
    figures = measure(panel, ForecasterConfig(epochs=given.epochs, width=given.width, **wide))
    figures["data"] = str(given.data.name) if given.data else "random walk"
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
