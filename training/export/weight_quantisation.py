"""INT8 weights for an ONNX model: matrices are stored as int8 and multiplied out to float32 where they are used.

Activations stay float32, so that an answer depends on its own window alone, not on the others of the call, as
it would with activation scales taken over the batch; and none of the precision goes into activations, which
costs most of the agreement. What a matrix loses by rounding is made up as far as possible by its other
entries (GPTQ: Frantar et al. 2023, https://arxiv.org/abs/2210.17323): they are rounded one input after the
other, and the error of each is spread over those not rounded yet, weighed by how the inputs go together on
calibration windows. Biases are packed into one float16 constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_LEVELS = 127
_DAMPING = 0.01  # share of the mean square of the inputs, against inputs that hardly vary
_SMALL = 64
"""Constants with fewer values stay as they are: a scale and an operator take more than is saved."""
_MANY_INPUTS = 128
"""From here on a scale per output column adds less than a thirtieth to a matrix."""
_FEW_OUTPUTS = 16
"""Up to here a scale per output column costs next to nothing: the heads."""


@dataclass(frozen=True)
class _Matrix:
    """A weight matrix of the graph, as (n_in, n_out), and the name of what is multiplied with it."""

    name: str
    weight: np.ndarray
    fed_by: str
    recurrent: bool
    """It is one of an LSTM's, stored (1, n_out, n_in)."""


def quantise_weights(model: Any, calibration: np.ndarray) -> Any:
    """Return the INT8 form of a float ONNX model.

    Parameters
    ----------
    model
        onnx.ModelProto with the input `window`; not changed.
    calibration
        (n, window, F) float32 raw features, finite, of the training span: not the windows to be judged on.

    Returns
    -------
    onnx.ModelProto
        Matrices, and other constants of two or more axes, behind DequantizeLinear.
    """
    import onnx

    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    graph = quantised.graph
    matrices = list(_matrices(graph))
    fed = _values_of(model, {matrix.fed_by for matrix in matrices}, calibration)
    for k, matrix in enumerate(matrices):
        # Standardised features reach 8 standard deviations: the first rounding is felt more than all others.
        n_in, n_out = matrix.weight.shape
        per_column = k == 0 or n_in >= _MANY_INPUTS or n_out <= _FEW_OUTPUTS
        inputs = fed[matrix.fed_by].reshape(-1, len(matrix.weight))
        levels, scale = rounded(matrix.weight, inputs, per_column=per_column)
        stored = np.ascontiguousarray(levels.T)[None] if matrix.recurrent else levels
        _replace(graph, matrix.name, stored, scale, axis=1)
    for name, table in list(_tables(graph)):
        scale = _scale(table, per_column=table.shape[-1] <= _FEW_OUTPUTS)
        _replace(graph, name, np.round(table / scale).astype(np.int8), scale, axis=table.ndim - 1)
    _pack_biases(graph)
    return quantised


def rounded(weight: np.ndarray, inputs: np.ndarray, *, per_column: bool) -> tuple[np.ndarray, np.ndarray]:
    """Round a matrix to int8 so that its products with the given inputs change as little as possible.

    Parameters
    ----------
    weight
        (n_in, n_out).
    inputs
        (n, n_in), what it is multiplied with.
    per_column
        A scale for each output instead of one for all.

    Returns
    -------
    (n_in, n_out) int8, and the scales: () or (n_out,) float32
    """
    scale = _scale(weight, per_column=per_column)
    moments = inputs.T.astype(np.float64) @ inputs
    moments += np.eye(len(moments)) * max(_DAMPING * np.mean(np.diag(moments)), np.finfo(np.float64).tiny)
    order = np.argsort(-np.diag(moments), kind="stable")  # what weighs most is rounded first
    spread = np.linalg.cholesky(np.linalg.inv(moments[np.ix_(order, order)])).T
    left = weight[order].astype(np.float64)
    levels = np.zeros(weight.shape, np.int8)
    for k, row in enumerate(order):
        levels[row] = np.clip(np.round(left[k] / scale), -_LEVELS, _LEVELS)
        error = (left[k] - levels[row] * scale.astype(np.float64)) / spread[k, k]
        left[k + 1 :] -= np.outer(spread[k, k + 1 :], error)
    return levels, scale


def _scale(weight: np.ndarray, *, per_column: bool) -> np.ndarray:
    """Step between two levels: () or, for the last axis, (n_out,) float32."""
    axes = tuple(range(weight.ndim - 1)) if per_column else None
    return np.asarray(
        np.maximum(np.abs(weight).max(axis=axes), np.finfo(np.float32).tiny) / _LEVELS, np.float32
    )


def _matrices(graph: Any) -> Iterator[_Matrix]:
    """Weight matrices in the order of their use."""
    from onnx import numpy_helper

    constants = {constant.name: constant for constant in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            weight = numpy_helper.to_array(constants[node.input[1]])
            if weight.ndim == 2 and weight.size >= _SMALL:
                yield _Matrix(node.input[1], weight, node.input[0], recurrent=False)
        elif node.op_type == "LSTM":
            for name, fed_by in ((node.input[1], node.input[0]), (node.input[2], node.output[0])):
                yield _Matrix(name, numpy_helper.to_array(constants[name])[0].T, fed_by, recurrent=True)


def _tables(graph: Any) -> Iterator[tuple[str, np.ndarray]]:
    """What else is large: positions, the mask of a causal model, weights of the newest bar's features."""
    from onnx import numpy_helper

    added = {name for node in graph.node if node.op_type in ("Add", "Mul") for name in node.input}
    for constant in graph.initializer:
        if constant.name in added and sum(size > 1 for size in constant.dims) > 1:
            table = numpy_helper.to_array(constant)
            if table.dtype == np.float32 and table.size >= _SMALL:
                yield constant.name, table


def _values_of(model: Any, names: set[str], windows: np.ndarray) -> dict[str, np.ndarray]:
    """Inner values of a model on some windows."""
    import onnx
    import onnxruntime

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    asked = sorted(names)
    opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in asked)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the sums of another number of threads end in other bits
    session = onnxruntime.InferenceSession(
        opened.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(asked, session.run(asked, {model.graph.input[0].name: windows}), strict=True))


def _replace(graph: Any, name: str, levels: np.ndarray, scale: np.ndarray, *, axis: int) -> None:
    """Put int8 levels, and their scale or the scales along an axis, in the place of a float constant."""
    from onnx import helper, numpy_helper

    constant = next(constant for constant in graph.initializer if constant.name == name)
    graph.initializer.remove(constant)
    stored, factor = f"{name}_int8", f"{name}_scale"
    graph.initializer.extend(
        [numpy_helper.from_array(levels, stored), numpy_helper.from_array(scale, factor)]
    )
    columns = {"axis": axis} if scale.ndim else {}
    graph.node.insert(0, helper.make_node("DequantizeLinear", [stored, factor], [name], **columns))


def _pack_biases(graph: Any) -> None:
    """Store the biases as one float16 constant, cut apart in the graph; an LSTM's as its one half that is not 0."""
    from onnx import helper, numpy_helper

    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    added = [name for node in graph.node if node.op_type == "Add" for name in node.input]
    biases = {name: constants[name] for name in added if name in constants and constants[name].ndim == 1}
    lstm = next(node for node in graph.node if node.op_type == "LSTM")
    both = constants[lstm.input[3]]
    half = both.size // 2
    if np.any(both[0, half:]):
        raise ValueError("the LSTM has a recurrent bias; Keras' has none")
    biases[lstm.input[3]] = both[0, :half]
    for constant in [constant for constant in graph.initializer if constant.name in biases]:
        graph.initializer.remove(constant)
    packed = np.concatenate(list(biases.values())).astype(np.float16)
    sizes = np.array([*(bias.size for bias in biases.values())], np.int64)
    sizes[-1] *= 2
    arrays = {
        "biases": packed,
        "bias_sizes": sizes,
        "bias_padding": np.array([0, half], np.int64),
        "bias_axis": np.array([0], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    parts = [*list(biases)[:-1], "lstm_bias"]
    nodes = [
        helper.make_node("Cast", ["biases"], ["biases_float"], to=1),
        helper.make_node("Pad", ["biases_float", "bias_padding"], ["biases_padded"]),
        helper.make_node("Split", ["biases_padded", "bias_sizes"], parts),
        helper.make_node("Unsqueeze", ["lstm_bias", "bias_axis"], [lstm.input[3]]),
    ]
    for node in reversed(nodes):
        graph.node.insert(0, node)
