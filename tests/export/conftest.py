"""One small forecaster, exported once for all tests here; TensorFlow runs in child processes only."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from training.child_process import run_child
from training.export import conversion
from training.export.conversion import ExportedModel
from training.export.formats import ONNX, TFLITE, export

HERE = Path(__file__).parent
WINDOW = 16


@dataclass(frozen=True)
class Exported:
    forecaster: Path
    windows: np.ndarray
    onnx: ExportedModel
    tflite: ExportedModel
    folder: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.onnx.files, *self.tflite.files)


def random_walk(bars: int = 500, seed: int = 11) -> dict[str, np.ndarray]:
    """Bars with volatility that comes and goes."""
    rng = np.random.default_rng(seed)
    volatility = 0.004 * np.exp(np.cumsum(rng.normal(0, 0.05, bars)))
    close = 100 * np.exp(np.cumsum(rng.normal(0, volatility)))
    reach = np.abs(rng.normal(0, volatility)) + 1e-4
    volume = rng.lognormal(3, 1, bars)
    return {"high": close * (1 + reach), "low": close * (1 - reach), "close": close, "volume": volume}


def feature_windows(bars: dict[str, np.ndarray], window: int) -> np.ndarray:
    """Windows (n, window, F) of the features in `random_forecaster.py`, which differ much in size."""
    log_return = np.diff(np.log(bars["close"]), prepend=np.nan)
    volume, hour = bars["volume"], np.arange(len(log_return)) / 4
    features = np.full((len(log_return), 5), np.nan)
    features[:, 0] = log_return
    features[29:, 1] = sliding_window_view(log_return, 30).std(axis=1)
    features[:, 2] = (bars["close"] - bars["low"]) / (bars["high"] - bars["low"]) * 100
    features[19:, 3] = volume[19:] / sliding_window_view(volume, 20).mean(axis=1)
    features[:, 4] = np.sin(2 * np.pi * hour / 24)
    windows = sliding_window_view(features.astype(np.float32), window, axis=0).swapaxes(1, 2)
    return np.ascontiguousarray(windows[np.isfinite(windows).all(axis=(1, 2))])


@pytest.fixture(scope="session")
def windows() -> np.ndarray:
    return feature_windows(random_walk(), WINDOW)[:400]


@pytest.fixture(scope="session")
def calibration() -> np.ndarray:
    """Windows of another walk: nothing is fitted to what it is judged on."""
    return feature_windows(random_walk(seed=12), WINDOW)[:128]


@pytest.fixture(scope="session")
def forecaster(windows: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forecaster with what Keras answers on `windows`."""
    folder = tmp_path_factory.mktemp("forecaster")
    np.save(folder / "windows.npy", windows)
    script = [sys.executable, HERE / "random_forecaster.py", folder, folder / "windows.npy"]
    subprocess.run(script, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def exported(
    forecaster: Path,
    windows: np.ndarray,
    calibration: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            conversion, "MIN_AGREEMENT", 0.9
        )  # all files, to look at; the bound has tests of its own
        onnx = export(ONNX, forecaster, folder, windows, calibration=calibration)
        tflite = export(TFLITE, forecaster, folder, windows, calibration=calibration)
    return Exported(forecaster, windows, onnx, tflite, folder)


@pytest.fixture(scope="session")
def real_windows(shared_data: Path) -> np.ndarray:
    """256 windows of real 15m bars of BTCUSDT, the crash of October 2025 among them."""
    frame = pl.read_parquet(shared_data / "klines" / "binance_um_recent" / "BTCUSDT_15m.parquet")
    frame = frame.filter(pl.col("open_time") < 1_760_200_000_000).tail(400)
    bars = {name: frame[name].to_numpy() for name in ("high", "low", "close", "volume")}
    return feature_windows(bars, WINDOW)[-256:]


@pytest.fixture(scope="session")
def again(
    request: pytest.FixtureRequest,
    exported: Exported,
    calibration: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder of a second conversion; it asks Keras about the real windows too."""
    try:
        asked = request.getfixturevalue("real_windows")
    except pytest.skip.Exception:
        asked = exported.windows
    folder = tmp_path_factory.mktemp("again")
    np.save(folder / "windows.npy", asked)
    np.save(folder / "calibration.npy", calibration)
    given = {
        "forecaster": exported.forecaster,
        "windows": folder / "windows.npy",
        "calibration": folder / "calibration.npy",
    }
    run_child(ONNX.converter, {**given, **ONNX.options(folder)}, doing="the second conversion", timeout=300)
    return folder
