"""The LSTM of the integer file: a loop over the window, all of it in 16 bits.

TFLite's own LSTM operator has 8-bit inputs and hidden states, wants a fixed batch size and keeps its state between
calls; the converter turns no loop into 16-bit integers. The states come in and out at the scale of the sequence,
so that one product takes both.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from training.export.folded_weights import FoldedWeights
from training.export.tflite_graph import Graph, Model, Value
from training.export.tflite_operators import (
    UNIT_SCALE,
    add,
    concatenate,
    linear,
    multiply,
    product,
    range_scale,
    sigmoid,
    split,
    subtract,
    take,
    tanh,
)

_GATE_SCALE = 2.0**-12
"""Gates between -8 and 8: beyond, sigmoid and tanh hardly change."""


def lstm(model: Model, graph: Graph, x: Value, weights: FoldedWeights) -> Value:
    """Final hidden state (n, units) of (n, window, width): a loop over the window."""
    steps = x.data.shape[1]
    units = len(weights.lstm_recurrent)
    hidden, cell = _states(x.data, weights)
    before = [states[:, :-1].reshape(-1, units) for states in (hidden, cell)]
    scales = [None, x.scale, range_scale(cell), x.scale]
    counter = np.zeros((), np.int32)

    def entries(inner: Graph) -> list[Value]:
        return [
            inner.given(data, scale=scale)
            for data, scale in zip([counter, *before, x.data], scales, strict=True)
        ]

    condition, body = Graph(model), Graph(model)
    given = entries(condition)
    limit = condition.constant(np.array(steps))
    more = condition.run("LESS", [given[0], limit], np.array(True))
    condition.close(given, [more])
    given = entries(body)
    body.close(given, _step(body, given, weights))

    zeros = _zeros(graph, x, units)
    options = schema.WhileOptionsT(condSubgraphIndex=condition.position, bodySubgraphIndex=body.position)
    ends = [counter, hidden[:, -1], cell[:, -1], x.data]
    start = [graph.constant(np.array(0)), zeros, zeros, x]
    return graph.run_many("WHILE", [*start], ends, scales, options)[1]


def _zeros(graph: Graph, x: Value, units: int) -> Value:
    """(n, units) of zeros for (n, steps, width)."""
    first = take(graph, x, 0)
    if first.data.shape[1] != units:
        nothing = graph.stored(np.zeros((units, first.data.shape[1]), np.int8), 1.0)
        return product(graph, first, nothing, np.zeros((len(first.data), units)), x.scale)
    return subtract(graph, first, first)


def _step(body: Graph, given: list[Value], weights: FoldedWeights) -> list[Value]:
    """One turn of the loop: step, hidden and cell state, sequence."""
    t, hidden, cell, sequence = given
    rows = sequence.data.reshape(-1, sequence.data.shape[-1])
    now = body.run("GATHER", [sequence, t], rows, sequence.scale, schema.GatherOptionsT(axis=1), 2)
    layer = weights.lstm_input
    both = np.concatenate([layer.weight, weights.lstm_recurrent])
    gates = linear(body, concatenate(body, [now, hidden]), both, layer.bias, scale=_GATE_SCALE)
    enter, keep, _, leave = split(body, sigmoid(body, gates), 4)
    candidate = split(body, gates, 4)[2]
    entering = multiply(body, enter, tanh(body, candidate), UNIT_SCALE)
    cell = add(body, multiply(body, keep, cell, cell.scale), entering, cell.scale)
    hidden = multiply(body, leave, tanh(body, cell), hidden.scale)
    return [add(body, t, body.constant(np.array(1))), hidden, cell, sequence]


def _states(x: np.ndarray, weights: FoldedWeights) -> tuple[np.ndarray, np.ndarray]:
    """Hidden and cell states (n, steps + 1, units) of (n, steps, width), from the zeros at the start on."""
    layer = weights.lstm_input
    hidden = np.zeros((len(x), x.shape[1] + 1, len(weights.lstm_recurrent)), np.float32)
    cell = np.zeros_like(hidden)
    for t in range(x.shape[1]):
        gates = x[:, t] @ layer.weight + layer.bias + hidden[:, t] @ weights.lstm_recurrent
        enter, keep, candidate, leave = np.split(gates, 4, axis=1)
        cell[:, t + 1] = _sigmoid(keep) * cell[:, t] + _sigmoid(enter) * np.tanh(candidate)
        hidden[:, t + 1] = _sigmoid(leave) * np.tanh(cell[:, t + 1])
    return hidden, cell


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
