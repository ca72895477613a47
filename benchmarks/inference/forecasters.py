"""Bars, a forecaster trained on them, and all of its exported forms, good or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.skill.recorded import recorded_panel
from kernels.catalogue import available, model_features
from kernels.compute import compute
from market.intervals import interval_ms
from market.store import Panel
from training.child_process import run_child
from training.config import ForecasterConfig
from training.data.dataset import build_training_set
from training.data.training_set import TrainingSet
from training.export.formats import ONNX, TFLITE
from training.export.reference_outputs import real_windows
from training.network.forecaster_files import load_forecaster

BARS = 6_000
CALIBRATION = 256
WIDE = 128
FORMS = ("onnx_f32", "onnx_int8", "tflite", "tflite_dynamic", "tflite_int8")
"""What the files of both formats are called here, in their order."""


def real_panel(folder: Path, interval: str) -> Panel:
    """The newest recorded bars of all symbols that have this interval."""
    panel = recorded_panel(folder, interval=interval)
    columns = {name: values[-BARS:] for name, values in panel.columns.items()}
    return Panel(panel.open_time[-BARS:], panel.symbols, panel.interval, columns)


def random_panel(interval: str, symbols: int = 10) -> Panel:
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
    return Panel(grid, tuple(f"WALK{i}" for i in range(symbols)), interval, columns)


def config_of(width: int | None, **settings: Any) -> ForecasterConfig:
    """The default forecaster; of another width, its LSTM and feed-forward part grow along."""
    if width is None or width == ForecasterConfig().width:
        return ForecasterConfig(**settings)
    return ForecasterConfig(width=width, lstm_units=width, ff=2 * width, **settings)


def trained(panel: Panel, config: ForecasterConfig, folder: Path) -> TrainingSet:
    """Build a training set in `folder`/set and train into `folder`/forecaster."""
    from training.fitting.fit import train

    block = compute(panel, available(model_features(panel.open_time), panel.columns))
    data = build_training_set(block, panel.columns["close"], panel.interval, config, folder / "set")
    train(data, config, folder / "forecaster")
    return data


def save_keras_model(forecaster: Path, file: Path) -> Path:
    """Save a forecaster as Keras does."""
    model, _ = load_forecaster(forecaster)
    model.save(file)
    return file


def convert(forecaster: Path, folder: Path, data: TrainingSet) -> dict[str, Path]:
    """Make all exported forms, good or not: the benchmark tells how good."""
    made = {name: folder / file for name, file in zip(FORMS, (*ONNX.files, *TFLITE.files), strict=True)}
    calibration = folder / "calibration.npy"
    np.save(calibration, real_windows(data, CALIBRATION, "train"))
    given = {"forecaster": forecaster, "calibration": calibration}
    for form in (ONNX, TFLITE):
        options = {**given, **form.options(folder)}
        run_child(form.converter, options, doing=f"the conversion to {form.name}", timeout=900)
    return made
