"""The last layers of the integer file, and what their raw outputs mean, in float32."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from training.config import CLASSES
from training.export.folded_weights import FoldedWeights, Linear
from training.export.integer_weights import MOST_STRETCH
from training.export.tflite_graph import LEVELS, Graph, Value
from training.export.tflite_operators import (
    add,
    concatenate,
    linear,
    multiply,
    real,
    reshape,
    split_at,
    subtract,
    take,
)
from training.network.forecaster_files import ForecasterMeta

_SMALLEST = 1e-9
_ROOM = 2.0
"""Times what calibration saw, that 16 bits are to hold."""


@dataclass(frozen=True)
class RawOutputs:
    """Outputs of the last layer in integers, stretched so that all columns of its matrix make use of all levels."""

    values: Value
    """(n, 3 + Q + 1): logits, middle quantile, negated steps between quantiles, logarithm of the volatility ratio."""
    logit: float
    """What 1 means in a logit, and so on; steps are not stretched."""
    middle: float
    ratio: float


def raw_outputs(graph: Graph, state: Value, newest: Value, weights: FoldedWeights, clip: float) -> RawOutputs:
    """Last layers, of the LSTM's state (n, units) and the newest bar's features (n, F), these divided by `clip`.

    Steps are negated because softplus(x) is -log(sigmoid(-x)). The volatility ratio is stretched so that 16 bits
    end where the model clips it.
    """
    from training.network.model import MAX_LOG_RATIO  # with it comes Keras

    quantiles = weights.quantile_raw
    middle = Linear(quantiles.weight[:, :1], quantiles.bias[:1])
    steps = Linear(-quantiles.weight[:, 1:], -quantiles.bias[1:])
    layers = (weights.direction, middle, steps, weights.volatility_raw)
    weight = np.concatenate([layer.weight for layer in layers], axis=1)
    bias = np.concatenate([layer.bias for layer in layers])
    given, weight = _joined(graph, state, newest, weights.hidden, weight, clip)
    sizes = [len(layer.bias) for layer in layers]
    parts = np.split(weight, np.cumsum(sizes)[:-1], axis=1)
    largest = np.array([max(float(np.abs(part).max()), _SMALLEST) for part in parts])
    stretch = np.clip(largest[2] / largest, 1 / MOST_STRETCH, MOST_STRETCH)
    columns = np.repeat(stretch, sizes)
    seen = float(np.abs(((given.data @ weight + bias) * columns)[:, :-1]).max())
    full = max(_ROOM * seen, float(stretch[3]) * MAX_LOG_RATIO)
    columns[-1] = full / MAX_LOG_RATIO
    values = linear(graph, given, weight * columns, bias * columns, scale=full / LEVELS)
    return RawOutputs(values, float(1 / stretch[0]), float(1 / stretch[1]), MAX_LOG_RATIO / full)


def _joined(
    graph: Graph, state: Value, newest: Value, hidden: Linear, weight: np.ndarray, clip: float
) -> tuple[Value, np.ndarray]:
    """Hidden units beside the newest features, at one scale, and the last matrix for them."""
    seen = float(np.maximum(state.data @ hidden.weight + hidden.bias, 0).max())
    reach = _ROOM * max(seen, _SMALLEST)
    units = linear(graph, state, hidden.weight / reach, hidden.bias / reach, scale=newest.scale, relu=True)
    factors = np.repeat([reach, clip], [units.data.shape[1], newest.data.shape[1]])
    return concatenate(graph, [units, newest]), weight * factors[:, None]


def answers(graph: Graph, raw: RawOutputs, window: Value, meta: ForecasterMeta) -> dict[str, Value]:
    """What the raw outputs mean, in float32; NaN for a window that is not finite."""
    length = len(meta.feature_names)
    steps = len(meta.config.quantiles) - 1
    flat = reshape(graph, window, (meta.config.window * length,))
    bad = _not_finite(graph, flat)
    newest = take(graph, flat, [(meta.config.window - 1) * length + meta.volatility_index])
    volatility = add(graph, newest, bad)
    values = graph.run("DEQUANTIZE", [raw.values], raw.values.data, version=2)
    logits, middle, distances, ratio = split_at(graph, values, [len(CLASSES), 1, steps, 1])
    return {
        "direction": add(graph, _softmax(graph, logits, raw.logit), bad),
        "quantiles": multiply(graph, _quantiles(graph, middle, distances, raw.middle, meta), volatility),
        "volatility": multiply(graph, _volatility_ratio(graph, ratio, raw.ratio, meta), volatility),
    }


def _softmax(graph: Graph, logits: Value, factor: float) -> Value:
    powers = np.exp((logits.data - logits.data.max(axis=1, keepdims=True)) * factor)
    shares = powers / powers.sum(axis=1, keepdims=True)
    return real(graph, "SOFTMAX", [logits], shares, schema.SoftmaxOptionsT(beta=factor))


def _quantiles(graph: Graph, middle: Value, distances: Value, factor: float, meta: ForecasterMeta) -> Value:
    """Quantiles in units of the volatility of a bar; see `MonotoneQuantiles`."""
    from training.network.model import quantile_mixing

    below = real(graph, "LOGISTIC", [distances], 1 / (1 + np.exp(-distances.data)))
    parts = concatenate(graph, [middle, real(graph, "LOG", [below], np.log(below.data))])
    mixing = quantile_mixing(len(meta.config.quantiles), meta.calibration.step_scales)
    signs = np.array([factor, *[-1.0] * distances.data.shape[1]])
    return _dense(graph, parts, mixing * signs[:, None] * math.sqrt(meta.config.horizon))


def _volatility_ratio(graph: Graph, ratio: Value, factor: float, meta: ForecasterMeta) -> Value:
    """Volatility over the horizon in units of that of a bar."""
    shift = math.log(meta.calibration.volatility_factor * math.sqrt(meta.config.horizon))
    exponent = _dense(graph, ratio, np.array([[factor]]), np.array([shift]))
    return real(graph, "EXP", [exponent], np.exp(exponent.data))


def _dense(graph: Graph, x: Value, weight: np.ndarray, bias: np.ndarray | None = None) -> Value:
    """Float32 x @ weight + bias."""
    given = [x, graph.constant(weight.T)]
    data = x.data @ weight
    if bias is not None:
        given.append(graph.constant(bias))
        data = data + bias
    return real(graph, "FULLY_CONNECTED", given, data, schema.FullyConnectedOptionsT(keepNumDims=True))


def _not_finite(graph: Graph, flat: Value) -> Value:
    """(n, 1): 0, or NaN for a window with a NaN or an infinity; of (n, window * F)."""
    options = schema.ReducerOptionsT(keepDims=True)
    total = real(
        graph, "SUM", [flat, graph.constant(np.array(1))], flat.data.sum(axis=1, keepdims=True), options
    )
    return subtract(graph, total, total)
