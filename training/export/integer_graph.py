"""The forecaster as a TFLite file that computes in integers: INT8 weights, 16-bit values, float32 in and out.

Float32 are the standardising of the raw features before, and after it what turns the seven raw outputs into
probabilities, quantiles and volatility. Everything between, that is every product with a weight, attention with
its softmax, and the LSTM, are integers: int8 weights, int16 values, int32 sums. All scales were fixed on
calibration windows, so that a window's answer does not depend on its neighbours. Input and outputs are those
of the other files, for any batch size, and a window that is not finite gets NaN.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from training.export.folded_weights import Block, FoldedWeights
from training.export.inference_graph import INPUT_NAME
from training.export.integer_answers import answers, raw_outputs
from training.export.integer_lstm import lstm
from training.export.integer_weights import deferred_biases, equalised
from training.export.tflite_files import compact
from training.export.tflite_graph import Graph, Model, Value
from training.export.tflite_operators import (
    UNIT_SCALE,
    add,
    linear,
    multiply_matrices,
    real,
    reshape,
    softmax,
    split,
    subtract,
    table,
    take,
    transpose,
    vector,
)
from training.network.forecaster_files import ForecasterMeta


def integer_file(weights: FoldedWeights, meta: ForecasterMeta, calibration: np.ndarray) -> bytes:
    """Write the INT8 TFLite file of a forecaster.

    Parameters
    ----------
    weights, meta
        Of the forecaster.
    calibration
        (n, window, F) raw windows of the training split, finite: the ranges of all values are taken from them.
    """
    weights = equalised(deferred_biases(weights))
    model = Model()
    graph = Graph(model)
    window = graph.given(calibration.astype(np.float32))
    standard = _standardised(graph, window, meta)
    clip = meta.normalisation.clip
    x = add(graph, linear(graph, standard, weights.project * clip), table(graph, weights.positions[None]))
    for block in weights.blocks:
        x = add(graph, x, linear(graph, _attention(graph, x, block, meta), block.output.weight))
        inner = linear(graph, x, block.expand.weight, block.expand.bias, relu=True)
        x = add(graph, x, linear(graph, inner, block.contract.weight))
    state = lstm(model, graph, x, weights)
    heads = raw_outputs(graph, state, take(graph, standard, meta.config.window - 1), weights, clip)
    model.sign(graph, {INPUT_NAME: window}, answers(graph, heads, window, meta))
    return compact(model.packed)


def _standardised(graph: Graph, window: Value, meta: ForecasterMeta) -> Value:
    """Raw (n, window, F) to int16 of standardised / clip, in [-1, 1].

    A NaN becomes any integer here; `answers` sees to it that it is not heard of again.
    """
    statistics = meta.normalisation
    mean = graph.constant(np.asarray(statistics.mean))
    factor = graph.constant(1 / (np.asarray(statistics.std) * statistics.clip))
    centred = subtract(graph, window, mean)
    scaled = np.clip(centred.data * factor.data, -1, 1)
    clip = schema.MulOptionsT(fusedActivationFunction=schema.ActivationFunctionType.RELU_N1_TO_1)
    cut = real(graph, "MUL", [centred, factor], scaled, clip)
    return graph.run("QUANTIZE", [cut], cut.data, UNIT_SCALE, version=2)


def _attention(graph: Graph, x: Value, block: Block, meta: ForecasterMeta) -> Value:
    """(n, window, width) to the mixed values, heads side by side."""
    config = meta.config
    layers = (block.query, block.key, block.value)
    joined = linear(graph, x, np.concatenate([layer.weight for layer in layers], axis=1))
    head_width = config.width // config.heads
    by_head = reshape(graph, joined, (config.window, 3 * config.heads, head_width))
    query, key, value = split(graph, transpose(graph, by_head, (0, 2, 1, 3)), 3)
    query = add(graph, query, vector(graph, block.query.bias.reshape(1, config.heads, 1, head_width)))
    scores = multiply_matrices(graph, query, key, transposed=True)
    if config.targets == "every":
        from training.network.sequences import causal_mask  # with it comes Keras

        scores = add(graph, scores, table(graph, causal_mask(config.window)[None, None]))
    mixed = multiply_matrices(graph, softmax(graph, scores), value)
    return reshape(graph, transpose(graph, mixed, (0, 2, 1, 3)), (config.window, config.width))
