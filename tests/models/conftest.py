"""Bundles of small models whose skill is known, made by hand, and a market with a planted signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from kernels.joins import IntervalFeatures, JoinedFeatures
from tests.training.conftest import INTERVAL, INTERVAL_MS, NAMES, PlantedMarket, plant
from training.config import ForecasterConfig, Normalisation
from training.data.splits import SPLITS, SplitSpan
from training.export.bundle import CURRENT_FILE, MANIFEST_FILE, MODELS_FOLDER
from training.export.manifest import Manifest, describe
from training.files import file_sha256
from training.lifecycle.comparison import Contestant
from training.lifecycle.exported_forecast import onnx_predict_fn
from training.lifecycle.promotion import promote
from training.lifecycle.registry import Decision
from training.lifecycle.unseen import Bars
from training.network.forecaster_files import META_FILE, WEIGHTS_FILE, ForecasterMeta

WINDOW, HORIZON = 8, 3
SKILLED, LESS_SKILLED, BLIND = 3.0, 2.0, 0.0
"""Signals of linear models on the market with a planted signal."""
SCALE = "realised_vol_30"


def linear_model(
    signal: float, *, window: int, names: tuple[str, ...], horizon: int, volatility: bool = True
) -> bytes:
    """A model that says softmax(-signal x, 0, signal x) of the last `taker_imbalance`, and normal quantiles."""
    weights = np.zeros((len(names), 3), np.float32)
    weights[names.index("taker_imbalance")] = (-signal, 0, signal)
    scale = np.zeros((len(names), 1), np.float32)
    scale[names.index(SCALE)] = np.sqrt(horizon)
    nodes = [
        helper.make_node("Gather", ["window", "last"], ["now"], axis=1),
        helper.make_node("MatMul", ["now", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["direction"], axis=1),
        helper.make_node("MatMul", ["now", "scale"], ["volatility"]),
        helper.make_node("Mul", ["volatility", "steps"], ["quantiles"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(window - 1, np.int64), "last"),
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(scale, "scale"),
        numpy_helper.from_array(np.array([[-1.2816, 0, 1.2816]], np.float32), "steps"),
    ]
    outputs = [
        helper.make_tensor_value_info("direction", TensorProto.FLOAT, ["batch", 3]),
        helper.make_tensor_value_info("quantiles", TensorProto.FLOAT, ["batch", 3]),
    ]
    if volatility:
        outputs.append(helper.make_tensor_value_info("volatility", TensorProto.FLOAT, ["batch", 1]))
    inputs = [helper.make_tensor_value_info("window", TensorProto.FLOAT, ["batch", window, len(names)])]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, constants)
    return bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        ).SerializeToString()
    )


def describe_linear(
    seen: int, window: int, horizon: int, names: tuple[str, ...], interval: str, flat_band: float
) -> ForecasterMeta:
    """The description of a linear model, as if it had been trained."""
    span = SplitSpan(
        rows=10,
        first_feature_time=0,
        first_open_time=window * INTERVAL_MS,
        last_open_time=(seen - horizon) * INTERVAL_MS,
        last_label_time=seen * INTERVAL_MS,
    )
    later = span.model_copy(update={"last_label_time": (seen + 50) * INTERVAL_MS})
    return ForecasterMeta(
        config=ForecasterConfig(window=window, horizon=horizon, flat_band=flat_band),
        feature_names=names,
        volatility_feature=SCALE,
        normalisation=Normalisation(mean=(0.0,) * len(names), std=(1.0,) * len(names)),
        interval=interval,
        symbols=("C0USDT",),
        spans=dict(zip(SPLITS, (span, span, later), strict=True)),
        training_set_id="none",
        run_id="none",
        history=(),
        best_epoch=0,
        environment={"keras": "3"},
        weights_sha256="",
    )


def publish_linear(
    home: Path,
    version: str,
    signal: float,
    *,
    seen: int,
    window: int = WINDOW,
    horizon: int = HORIZON,
    names: tuple[str, ...] = NAMES,
    interval: str = INTERVAL,
    flat_band: float = 0.5,
    model: bytes | None = None,
    volatility: bool = True,
    created_at: int = 0,
    metrics: dict[str, Any] | None = None,
) -> Path:
    """Publish a linear model whose validation split ends, labels included, with bar `seen`."""
    meta = describe_linear(seen, window, horizon, names, interval, flat_band)
    folder = home / MODELS_FOLDER / version
    folder.mkdir(parents=True)
    content = model or linear_model(
        signal, window=window, names=names, horizon=horizon, volatility=volatility
    )
    (folder / "model.onnx").write_bytes(content)
    manifest = describe(
        meta,
        model_version=version,
        created_at=created_at,
        code_version="0",
        forecaster_sha256=f"{version}-{signal}",
        metrics=metrics or {},
    )
    entry = {"sha256": file_sha256(folder / "model.onnx"), "bytes": len(content)}
    manifest = Manifest.model_validate(manifest.model_dump() | {"files": {"model.onnx": entry}})
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
    return folder


@dataclass(frozen=True)
class World:
    """A market and a home to publish models for it in."""

    home: Path
    market: PlantedMarket

    def bars(self, *, names: tuple[str, ...] = NAMES, stop: int | None = None) -> Bars:
        block = self.market.block
        part = type(block)(block.values[:, :stop], block.names, block.open_time[:stop], block.symbols)
        return Bars(
            JoinedFeatures(IntervalFeatures(INTERVAL, INTERVAL_MS, part, names)),
            self.market.close[:stop],
            INTERVAL,
        )

    def publish(self, version: str, signal: float, **facts: Any) -> Path:
        return publish_linear(self.home, version, signal, **{"seen": 600, **facts})

    def keep_forecaster(self, bundle: Path, names: tuple[str, ...]) -> None:
        """Put what a forecaster can be trained again from into a bundle."""
        meta = describe_linear(600, WINDOW, HORIZON, names, INTERVAL, 0.5)
        (bundle / META_FILE).write_text(meta.model_dump_json())
        (bundle / WEIGHTS_FILE).write_bytes(b"weights")

    def current(self) -> str | None:
        import json

        pointer = self.home / MODELS_FOLDER / CURRENT_FILE
        return json.loads(pointer.read_text())["version"] if pointer.exists() else None


def decide(world: World, challenger: Path, **changes: Any) -> Decision:
    """Let a challenger be decided about."""
    at = changes.pop("at", 7)
    given = {"now": lambda: at, "by": "a test", **changes}
    return promote(world.home, challenger, given.pop("bars", None) or world.bars(), **given)


def contestant(folder: Path) -> Contestant:
    """What is compared of a published model."""
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    return Contestant(manifest, onnx_predict_fn(folder / "model.onnx"))


@pytest.fixture(scope="session")
def strong_market() -> PlantedMarket:
    return plant(2400, 3, strength=0.5)


@pytest.fixture
def world(home: Path, strong_market: PlantedMarket) -> World:
    return World(home, strong_market)


@pytest.fixture(scope="session")
def publish_model() -> Callable[..., Path]:
    return publish_linear
