"""A small market, and bundles with real ONNX models, made by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper

from market.intervals import interval_ms
from market.klines import STORED_SCHEMA

INTERVAL = "5m"
STEP = interval_ms(INTERVAL)
START = 1_735_689_600_000  # 2025-01-01
SYMBOLS = tuple(f"S{i:02d}USDT" for i in range(20))
FEATURES = ("log_return_1", "rsi_14", "adx_14", "ppo_hist_12_26_9", "realised_vol_30", "taker_imbalance")
WINDOW = 16
BARS = 1_300


@pytest.fixture(scope="session")
def bars() -> pl.DataFrame:
    """Bars of 20 symbols: random walks with volumes, from a seed."""
    random = np.random.default_rng(7)
    shape = (BARS, len(SYMBOLS))
    close = 100 * np.exp(np.cumsum(random.normal(0, 2e-3, shape), axis=0))
    before = np.vstack([close[:1], close[:-1]])
    high = np.maximum(close, before) * np.exp(np.abs(random.normal(0, 1e-3, shape)))
    low = np.minimum(close, before) * np.exp(-np.abs(random.normal(0, 1e-3, shape)))
    volume = random.lognormal(3, 1, shape)
    open_time = np.broadcast_to((START + STEP * np.arange(BARS))[:, None], shape)
    columns: dict[str, Any] = {
        "symbol": np.broadcast_to(np.array(SYMBOLS), shape),
        "open_time": open_time,
        "open": before,
        "high": high,
        "low": low,
        "close": close,
        "volume": volume,
        "close_time": open_time + STEP - 1,
        "quote_volume": volume * close,
        "trades": np.ceil(volume * 10),
        "taker_buy_base": volume * random.uniform(0.2, 0.8, shape),
        "taker_buy_quote": volume * close * 0.1,
    }
    frame = pl.DataFrame({name: np.ascontiguousarray(values).ravel() for name, values in columns.items()})
    return frame.select(pl.col(name).cast(kind) for name, kind in STORED_SCHEMA.items()).sort(
        "symbol", "open_time"
    )


def small_model(
    seed: int = 0,
    features: int = len(FEATURES),
    window: int = WINDOW,
    units: int = 8,
    volatility: bool = True,
) -> bytes:
    """An LSTM over the window, a softmax, three rising quantiles, a volatility: the shape of the real forecaster.

    Without `volatility`, as models were before there was this output.
    """
    random = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(0, 0.3, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Transpose", ["window"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r"], ["", "last"], hidden_size=units),
        helper.make_node("Squeeze", ["last", "axis"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "to_classes", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["direction"], axis=1),
        helper.make_node("MatMul", ["hidden", "to_quantiles"], ["steps_up"]),
        helper.make_node("Softplus", ["steps_up"], ["increments"]),
        helper.make_node("CumSum", ["increments", "one"], ["quantiles"]),
    ]
    constants = [
        weights("w", 1, 4 * units, features),
        weights("r", 1, 4 * units, units),
        weights("to_classes", units, 3),
        weights("bias", 3),
        weights("to_quantiles", units, 3),
        numpy_helper.from_array(np.array([0], np.int64), "axis"),
        numpy_helper.from_array(np.array(1, np.int64), "one"),
    ]
    outputs = {"direction": 3, "quantiles": 3}
    if volatility:
        nodes += [
            helper.make_node("MatMul", ["hidden", "to_volatility"], ["ratio"]),
            helper.make_node("Exp", ["ratio"], ["volatility"]),
        ]
        constants.append(weights("to_volatility", units, 1))
        outputs["volatility"] = 1
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, ["batch", window, features])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
            for name, size in outputs.items()
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_bundle(
    home: Path, version: str = "v1", *, model: bytes | None = None, current: bool = True, **changes: Any
) -> Path:
    """Write a bundle as the exporter does; `changes` replace entries of the manifest, None removes one."""
    folder = home / "models" / version
    folder.mkdir(parents=True)
    content = small_model() if model is None else model
    (folder / "model.onnx").write_bytes(content)
    manifest: dict[str, Any] = {
        "format_version": 1,
        "model_version": version,
        "created_at": START,
        "feature_names": list(FEATURES),
        "window": WINDOW,
        "horizon": 6,
        "classes": ["down", "flat", "up"],
        "quantiles": [0.1, 0.5, 0.9],
        "intervals": [INTERVAL],
        "outputs": [{"name": name} for name in ("direction", "quantiles", "volatility")],
        "metrics": {},
        "files": {"model.onnx": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}},
    }
    manifest = {name: value for name, value in (manifest | changes).items() if value is not None}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if current:
        (home / "models" / "current").write_text(json.dumps({"version": version}))
    return folder


@pytest.fixture
def make_bundle(home: Path) -> Callable[..., Path]:
    def make(version: str = "v1", **changes: Any) -> Path:
        return write_bundle(home, version, **changes)

    return make


@pytest.fixture(scope="session")
def make_model() -> Callable[..., bytes]:
    return small_model
