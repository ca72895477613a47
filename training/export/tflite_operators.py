"""Operators of TFLite on 16-bit integers, each with what it computes in NumPy.

TensorFlow's converter refuses the LSTM, and loops, where values have 16 bits, so the graph is written here. Each
value carries what it is on the calibration windows, with the rounded weights: from that follow the scale of the
next value and the rounding of the next matrix, which is made for the inputs that it really gets.

Scales are powers of two, with room for twice what calibration saw: at 16 bits that costs nothing that could be
measured, and equal scales are stored once. The versions are those that TensorFlow's converter gives these operators.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from training.export.tflite_graph import LEVELS, Graph, Value
from training.export.weight_quantisation import rounded

UNIT_SCALE = 2.0**-15
"""Of values between -1 and 1; TFLite fixes it for what softmax, logistic and tanh give."""
_HEADROOM = 2.0
_MANY_BIASES = 64
"""From here on a bias takes less room as 16 bits and an operator that adds them than as the 32 bits of a product."""


def range_scale(data: np.ndarray) -> float:
    """Return a power of two that lets 16 bits hold `_HEADROOM` times what was seen."""
    largest = max(float(np.abs(data).max()), 1e-6)
    return 2.0 ** math.ceil(math.log2(largest * _HEADROOM / LEVELS))


def linear(
    graph: Graph,
    x: Value,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    scale: float | None = None,
    relu: bool = False,
) -> Value:
    """Compute x @ weight + bias: int8 weights, rounded for these inputs, int32 sums, int16 answers.

    Parameters
    ----------
    x
        (..., n_in).
    weight, bias
        (n_in, n_out) and (n_out,) float. What rounding the weights adds to the mean of an answer is taken off
        the bias, where there is one.
    scale
        Of the answers; by default from their range.
    relu
        Cut the answers off below 0.
    """
    seen = x.data.reshape(-1, len(weight))
    levels, step = rounded(weight, seen, per_column=False)
    stored = graph.stored(np.ascontiguousarray(levels.T), float(step))
    data = x.data @ (levels * step)
    if bias is None:
        return product(graph, x, stored, data, scale)
    bias = bias + seen.mean(axis=0) @ (weight - levels * step)
    if len(bias) >= _MANY_BIASES:
        return add(graph, product(graph, x, stored, data), vector(graph, bias), scale, relu=relu)
    sum_step = np.float32(x.scale) * step
    sums = np.round(bias / sum_step).astype(np.int32)
    answers = data + sums * sum_step
    if relu:
        answers = np.maximum(answers, 0)
    return product(graph, x, stored, answers, scale, graph.stored(sums, float(sum_step)), relu=relu)


def product(
    graph: Graph,
    x: Value,
    stored: Value,
    data: np.ndarray,
    scale: float | None = None,
    sums: Value | None = None,
    *,
    relu: bool = False,
) -> Value:
    """Multiply x with stored.T, which gives `data`; `sums` is added as int32."""
    options = schema.FullyConnectedOptionsT(
        fusedActivationFunction=_activation(relu=relu),
        keepNumDims=True,
        quantizedBiasType=schema.TensorType.INT32,
    )
    given = [x, stored] if sums is None else [x, stored, sums]
    return graph.run("FULLY_CONNECTED", [*given], data, scale or range_scale(data), options, 11)


def vector(graph: Graph, content: np.ndarray) -> Value:
    """A constant of 16 bits."""
    scale = range_scale(content)
    levels = np.round(content / scale).astype(np.int16)
    return Value(graph.stored(levels, scale).index, (levels * scale).astype(np.float32), scale)


def table(graph: Graph, content: np.ndarray) -> Value:
    """A constant, stored as int8 with one scale and widened when the graph runs.

    By way of float32: TensorFlow's own interpreter does not make 16-bit integers of 8-bit ones, as LiteRT does.
    """
    step = np.float32(np.abs(content).max() / 127)
    levels = np.round(content / step).astype(np.int8)
    stored = graph.stored(levels, float(step))
    plain = graph.run("DEQUANTIZE", [stored], (levels * step).astype(np.float32), version=2)
    return graph.run("QUANTIZE", [plain], plain.data, range_scale(content), version=2)


def add(graph: Graph, a: Value, b: Value, scale: float | None = None, *, relu: bool = False) -> Value:
    """Sum, in 16 bits or float32 or int32 as given; with `relu` cut off below 0."""
    data = a.data + b.data
    if relu:
        data = np.maximum(data, 0)
    options = schema.AddOptionsT(fusedActivationFunction=_activation(relu=relu), potScaleInt16=False)
    if a.scale is None:
        return graph.run("ADD", [a, b], data, None, options)
    return graph.run("ADD", [a, b], data, scale or range_scale(data), options, 3)


def subtract(graph: Graph, a: Value, b: Value) -> Value:
    """Difference, at the scale of a."""
    return graph.run(
        "SUB", [a, b], a.data - b.data, a.scale, schema.SubOptionsT(potScaleInt16=False), 5 if a.scale else 1
    )


def multiply(graph: Graph, a: Value, b: Value, scale: float | None = None) -> Value:
    """Product of entries."""
    return graph.run("MUL", [a, b], a.data * b.data, scale, schema.MulOptionsT(), 2 if scale else 1)


def multiply_matrices(graph: Graph, a: Value, b: Value, *, transposed: bool = False) -> Value:
    """Product of matrices, or with the last two axes of b swapped."""
    data = a.data @ (b.data.swapaxes(-1, -2) if transposed else b.data)
    options = schema.BatchMatMulOptionsT(adjY=transposed)
    return graph.run("BATCH_MATMUL", [a, b], data, range_scale(data), options, 2)


def softmax(graph: Graph, x: Value) -> Value:
    """Softmax over the last axis."""
    powers = np.exp(x.data - x.data.max(axis=-1, keepdims=True))
    shares = powers / powers.sum(axis=-1, keepdims=True)
    return graph.run("SOFTMAX", [x], shares, UNIT_SCALE, schema.SoftmaxOptionsT(beta=1.0), 2)


def sigmoid(graph: Graph, x: Value) -> Value:
    """1 / (1 + exp(-x))."""
    return graph.run("LOGISTIC", [x], 1 / (1 + np.exp(-x.data)), UNIT_SCALE, version=2)


def tanh(graph: Graph, x: Value) -> Value:
    """Hyperbolic tangent."""
    return graph.run("TANH", [x], np.tanh(x.data), UNIT_SCALE, version=2)


def reshape(graph: Graph, x: Value, shape: tuple[int, ...]) -> Value:
    """(n, ...) to (n, *shape)."""
    options = schema.ReshapeOptionsT(newShape=np.array([-1, *shape], np.int32))
    return graph.run("RESHAPE", [x], x.data.reshape(-1, *shape), x.scale, options)


def transpose(graph: Graph, x: Value, axes: tuple[int, ...]) -> Value:
    """Reorder the axes."""
    return graph.run(
        "TRANSPOSE", [x, graph.constant(np.array(axes))], x.data.transpose(axes), x.scale, version=2
    )


def split(graph: Graph, x: Value, parts: int) -> list[Value]:
    """Cut axis 1 into equal parts."""
    given: list[Value | None] = [graph.constant(np.array(1)), x]
    data, options = np.split(x.data, parts, axis=1), schema.SplitOptionsT(numSplits=parts)
    return graph.run_many("SPLIT", given, data, [x.scale] * parts, options, 2)


def split_at(graph: Graph, x: Value, sizes: list[int]) -> list[Value]:
    """Cut axis 1 into parts of these sizes."""
    given: list[Value | None] = [x, graph.constant(np.array(sizes)), graph.constant(np.array(1))]
    data = np.split(x.data, np.cumsum(sizes)[:-1], axis=1)
    return graph.run_many(
        "SPLIT_V", given, data, [x.scale] * len(sizes), schema.SplitVOptionsT(numSplits=len(sizes)), 2
    )


def concatenate(graph: Graph, parts: list[Value]) -> Value:
    """Join along axis 1; all have one scale."""
    data = np.concatenate([part.data for part in parts], axis=1)
    return graph.run("CONCATENATION", [*parts], data, parts[0].scale, schema.ConcatenationOptionsT(axis=1), 2)


def take(graph: Graph, x: Value, at: int | list[int]) -> Value:
    """Entries of axis 1: one, and the axis is gone, or several."""
    where = graph.constant(np.array(at))
    return graph.run("GATHER", [x, where], x.data[:, at], x.scale, schema.GatherOptionsT(axis=1), 2)


def real(graph: Graph, name: str, inputs: list[Value], data: np.ndarray, options: Any = None) -> Value:
    """An operator on float32."""
    return graph.run(name, [*inputs], np.asarray(data, np.float32), None, options)


def _activation(*, relu: bool) -> int:
    return int(schema.ActivationFunctionType.RELU if relu else schema.ActivationFunctionType.NONE)
