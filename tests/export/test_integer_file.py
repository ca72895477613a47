"""The INT8 TFLite file: what in it is an integer, and that the runtime computes what its writer thinks it does."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from training.export import tflite_operators as operators
from training.export.exported_files import open_exported
from training.export.tflite_files import compact, read_model
from training.export.tflite_graph import Graph, Model

FLOAT_OPERATORS = {
    "SUB",
    "MUL",
    "QUANTIZE",
    "RESHAPE",
    "SUM",
    "GATHER",
    "ADD",
    "DEQUANTIZE",
    "SPLIT_V",
    "LOGISTIC",
} | {
    "LOG",
    "CONCATENATION",
    "FULLY_CONNECTED",
    "EXP",
    "SOFTMAX",
}
"""What standardises the features, and what makes answers of the raw outputs."""


def _operators(model) -> list[tuple[str, list[int], list[list[int]], int]]:
    """Name, types of the inputs, their shapes, and bytes of the constants among them, of every operator."""
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    found = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            given = [graph.tensors[at] for at in operator.inputs if at >= 0]
            stored = [model.buffers[tensor.buffer].data for tensor in given]
            name = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
            shapes = [list(tensor.shape) if tensor.shape is not None else [] for tensor in given]
            size = sum(len(data) for data in stored if data is not None)
            found.append((name, [tensor.type for tensor in given], shapes, size))
    return found


def test_products_attention_and_the_lstm_are_integers(exported) -> None:
    found = _operators(read_model((exported.folder / "model.int8.tflite").read_bytes()))
    floats = [entry for entry in found if schema.TensorType.FLOAT32 in entry[1]]
    assert {name for name, *_ in floats} <= FLOAT_OPERATORS
    assert max(size for _, _, _, size in floats) <= 64, "no matrix of the network is among them"
    integers = [entry for entry in found if schema.TensorType.INT16 in entry[1]]
    products = [types for name, types, *_ in integers if name == "FULLY_CONNECTED"]
    # project; for each of two blocks query, key and value at once, output, expand, contract; zeros; LSTM, hidden, heads
    assert len(products) == 1 + 2 * 4 + 1 + 3
    assert {tuple(types[:2]) for types in products} == {(schema.TensorType.INT16, schema.TensorType.INT8)}
    names = [name for name, *_ in integers]
    assert (names.count("BATCH_MATMUL"), names.count("SOFTMAX"), names.count("TANH")) == (4, 2, 2)
    for name, types, *_ in found:
        if name in ("BATCH_MATMUL", "SOFTMAX", "TANH"):
            assert set(types) == {schema.TensorType.INT16} or (name, len(types)) == ("SOFTMAX", 1)


def test_what_is_large_is_int8(exported) -> None:
    model = read_model((exported.folder / "model.int8.tflite").read_bytes())
    large = [
        tensor.type
        for graph in model.subgraphs
        for tensor in graph.tensors
        if (data := model.buffers[tensor.buffer].data) is not None and len(data) > 256
    ]
    assert len(large) > 8
    assert set(large) == {schema.TensorType.INT8}


def test_it_answers_nearly_as_keras(exported) -> None:
    """A bias deferred to the wrong place, or a channel stretched in one place alone, would be far beyond this."""
    report = exported.tflite.reports["model.int8.tflite"]
    assert report.max_abs_difference["direction"] < 0.03
    assert report.mean_abs_difference["quantiles"] < 0.02
    assert report.mean_abs_difference["volatility"] < 0.02


def test_features_are_cut_where_the_model_cuts_them(exported) -> None:
    predict = open_exported(exported.folder / "model.int8.tflite")
    mean, std = np.array([0.0, 0.004, 50.0, 1.0, 0.0]), np.array([0.004, 0.002, 28.0, 0.8, 0.7])
    windows = exported.windows[:8].copy()
    windows[:, :8, [0, 3]] = (mean + 8.1 * std)[[0, 3]]
    further = windows.copy()
    further[:, :8, [0, 3]] = (mean + 1e12 * std)[[0, 3]]
    for output, answer in predict(windows).items():
        assert answer.tobytes() == predict(further)[output].tobytes()
        assert not np.array_equal(answer, predict(exported.windows[:8])[output])


@pytest.mark.parametrize("width", [8, 80])
def test_operators_compute_what_their_writer_expects(width: int) -> None:
    """Ranges, scales and the rounding of weights rest on that. Two widths: with biases of 32 bits, and of 16."""
    rng = np.random.default_rng(3)
    model = Model()
    graph = Graph(model)
    given = graph.given(rng.normal(size=(5, 4, 6)).astype(np.float32))
    x = graph.run("QUANTIZE", [given], given.data, operators.range_scale(given.data), version=2)
    weight = rng.normal(size=(6, width)).astype(np.float32) / np.float32(np.sqrt(width))
    inner = operators.linear(graph, x, weight, 0.3 * rng.normal(size=width), relu=True)
    inner = operators.add(graph, inner, operators.table(graph, 0.3 * rng.normal(size=(1, 4, width))))
    scores = operators.multiply_matrices(graph, inner, inner, transposed=True)
    mixed = operators.multiply_matrices(graph, operators.softmax(graph, scores), inner)
    first, second = operators.split(graph, operators.transpose(graph, mixed, (0, 2, 1)), 2)
    last = operators.multiply(graph, operators.sigmoid(graph, first), operators.tanh(graph, second), 2.0**-15)
    zeros = operators.subtract(graph, operators.take(graph, last, 0), operators.take(graph, last, 0))
    outputs = {
        name: graph.run("DEQUANTIZE", [value], value.data, version=2)
        for name, value in {"inner": inner, "scores": scores, "last": last, "zeros": zeros}.items()
    }
    model.sign(graph, {"given": given}, outputs)
    runner = Interpreter(model_content=compact(model.packed)).get_signature_runner()
    for name, answer in runner(given=given.data).items():
        reach = max(np.abs(outputs[name].data).max(), 1e-6)
        np.testing.assert_allclose(answer, outputs[name].data, atol=2e-3 * reach)
    assert np.ptp(outputs["last"].data) > 0.1


def test_equal_parts_are_stored_once(exported) -> None:
    """A file with names and every constant of its own is written as small again, and to the same bytes."""
    original = (exported.folder / "model.tflite").read_bytes()
    model = read_model(original)
    for graph in model.subgraphs:
        for at, tensor in enumerate(graph.tensors):
            tensor.name = f"value {at}"
            model.buffers.append(schema.BufferT(data=model.buffers[tensor.buffer].data))
            tensor.buffer = len(model.buffers) - 1
    builder = schema.flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    wasteful = bytes(builder.Output())
    assert len(wasteful) > 1.1 * len(original)
    assert compact(read_model(wasteful)) == original


def test_tensorflow_runs_the_file_too(exported) -> None:
    """Its interpreter is older than LiteRT and stricter; the answers are the same but for the last bits."""
    import tensorflow as tf

    path = exported.folder / "model.int8.tflite"
    interpreter = tf.lite.Interpreter(str(path), num_threads=1)
    run = interpreter.get_signature_runner()
    windows = exported.windows[:16]
    [name] = run.get_input_details()
    said = run(**{name: windows})
    expected = open_exported(path)(windows)
    for output, values in expected.items():
        np.testing.assert_allclose(said[output], values, rtol=1e-5, atol=1e-5)
