"""The exported files answer as the Keras model does, and nothing else is ever published."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from training.export.exported_files import open_exported
from training.export.onnx_tidying import canonical
from training.export.parity import (
    FLOAT_TOLERANCE,
    check_parity,
    decisions,
    ensure_reference,
)
from training.export.weight_quantisation import rounded

FLOAT_FILES = ("model.onnx", "model.tflite")
ALL_FILES = (*FLOAT_FILES, "model.int8.onnx", "model.dynamic.tflite", "model.int8.tflite")


def test_float_files_keep_the_tolerance(exported) -> None:
    reports = {**exported.onnx.reports, **exported.tflite.reports}
    assert set(reports) == set(ALL_FILES)
    for name in FLOAT_FILES:
        assert reports[name].windows == 400
        assert max(reports[name].max_abs_difference.values()) <= FLOAT_TOLERANCE
        assert reports[name].agreement == 1
        assert (exported.folder / name).is_file()


def test_reports_tell_how_decisions_change(exported) -> None:
    reports = {**exported.onnx.reports, **exported.tflite.reports}
    for name in ALL_FILES:
        flips = reports[name].decision_flips
        assert flips["most_probable"] == pytest.approx(1 - reports[name].agreement)
        assert (flips["threshold"] == 0) or name not in FLOAT_FILES
    quantised = [reports[name] for name in ALL_FILES if name not in FLOAT_FILES]
    for report in quantised:
        assert report.mean_abs_difference["quantiles"] > 1e-4, "it is not quantised"
        assert report.mean_abs_difference["quantiles"] < 0.1


def test_a_threshold_decides_for_the_more_probable_side() -> None:
    direction = np.array([[0.5, 0.1, 0.4], [0.3, 0.3, 0.4], [0.39, 0.22, 0.39], [0.35, 0.4, 0.25]])
    assert decisions(direction, 0.4).tolist() == [-1, 1, 0, 0]
    assert decisions(direction, None).tolist() == [-1, 1, -1, 0]


def test_the_reference_is_not_trivial(exported) -> None:
    reference = ensure_reference(exported.forecaster, exported.windows)
    assert len(np.unique(reference.direction.argmax(axis=1))) == 3
    assert (np.diff(reference.quantiles, axis=1) > 0).all()
    assert np.ptp(reference.direction, axis=0).min() > 0.1
    assert np.ptp(reference.volatility[:, 0] / reference.horizon_volatility) > 0.1


def test_conversion_repeats_byte_for_byte(exported, again: Path) -> None:
    for path in exported.onnx.files:
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_parity_on_real_bars(exported, real_windows, again: Path) -> None:
    for name in FLOAT_FILES:
        report = check_parity(exported.folder / name, exported.forecaster, real_windows)
        assert report.passed, str(report)
        assert report.windows == 256


def test_whoever_asks_for_an_export_needs_no_tensorflow() -> None:
    """Conversion and the Keras answers happen in child processes; the asking one loads none of it."""
    asking = (
        "training.export.export_onnx",
        "training.export.export_tflite",
        "training.export.parity",
        "training.export.bundle",
    )
    code = f"import sys, {', '.join(asking)}; sys.exit(bool({{'tensorflow', 'keras', 'tf2onnx'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_onnx_interface(exported) -> None:
    session = onnxruntime.InferenceSession(exported.folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("window", ["batch", 16, 5], "tensor(float)")
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [
        ("direction", ["batch", 3]),
        ("quantiles", ["batch", 3]),
        ("volatility", ["batch", 1]),
    ]
    model = onnx.load(exported.folder / "model.onnx")
    assert [o.version for o in model.opset_import if o.domain == ""] == [17]
    assert "LSTM" in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("name", ["model.tflite", "model.dynamic.tflite", "model.int8.tflite"])
def test_tflite_has_builtin_operators_only(exported, name: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(exported.folder / name))
    operators = {op["op_name"] for op in interpreter._get_ops_details()}
    assert "WHILE" in operators
    assert not {name for name in operators if "Flex" in name or "CUSTOM" in name}


@pytest.mark.parametrize("name", ALL_FILES)
def test_answers_do_not_depend_on_the_batch(exported, name: str) -> None:
    predict = open_exported(exported.folder / name)
    together = predict(exported.windows[:60])
    alone = [predict(exported.windows[k : k + 1]) for k in range(60)]
    for output, size in (("direction", 3), ("quantiles", 3), ("volatility", 1)):
        assert together[output].shape == (60, size)
        np.testing.assert_allclose(
            np.concatenate([answer[output] for answer in alone]), together[output], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ALL_FILES)
def test_a_window_that_is_not_finite_gets_nan(exported, name: str, bad: float) -> None:
    predict = open_exported(exported.folder / name)
    windows = exported.windows[:80].copy()
    for k in range(16):  # every bar and every feature in turn, each in a window of its own
        windows[5 * k, k, k % 5] = bad
    spoilt = ~np.isfinite(windows).all(axis=(1, 2))
    assert spoilt.sum() == 16
    answers, clean = predict(windows), predict(exported.windows[:80])
    for output in ("direction", "quantiles", "volatility"):
        assert np.isnan(answers[output][spoilt]).all()
        np.testing.assert_allclose(answers[output][~spoilt], clean[output][~spoilt], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["model.int8.onnx", "model.int8.tflite"])
def test_an_int8_window_gets_the_same_bits_among_any_neighbours(exported, name: str) -> None:
    """Weights are rounded once and for all; no scale is taken over what else is in the call, and no state is kept."""
    predict = open_exported(exported.folder / name)
    others = exported.windows[:16].copy()
    others[1:] *= 3
    for output, answer in predict(exported.windows[:16]).items():
        assert answer[0].tobytes() == predict(others)[output][0].tobytes()


def test_int8_matrices_are_stored_as_int8(exported) -> None:
    model = onnx.load(exported.folder / "model.int8.onnx")
    large = [constant for constant in model.graph.initializer if np.prod(constant.dims) >= 256]
    assert len(large) > 10
    assert {onnx.TensorProto.DataType.Name(constant.data_type) for constant in large} <= {"INT8", "FLOAT16"}
    stored, plain = ((exported.folder / name).stat().st_size for name in ("model.int8.onnx", "model.onnx"))
    assert stored < 0.45 * plain, "small as this forecaster is, with most of the file its operators"


def test_names_of_values_differ() -> None:
    node = [onnx.helper.make_node("Relu", [f"value {k}"], [f"value {k + 1}"]) for k in range(4000)]
    ends = [onnx.helper.make_tensor_value_info(f"value {k}", 1, [None, 2]) for k in (0, 4000)]
    model = onnx.helper.make_model(onnx.helper.make_graph(node, "chain", ends[:1], ends[1:]))
    canonical(model)
    assert len({name for node in model.graph.node for name in node.output}) == 4000
    onnx.checker.check_model(model)


def test_quantiles_scale_with_the_volatility_of_the_last_bar(exported) -> None:
    """The scaling is inside: clipped far out, the network sees the same; quantiles and volatility double."""
    predict = open_exported(exported.folder / "model.onnx")
    calm, wild = exported.windows[:20].copy(), exported.windows[:20].copy()
    calm[:, -1, 1], wild[:, -1, 1] = 0.1, 0.2  # both beyond 8 standard deviations
    for output in ("quantiles", "volatility"):
        np.testing.assert_allclose(predict(wild)[output], 2 * predict(calm)[output], rtol=1e-5)
    np.testing.assert_array_equal(predict(wild)["direction"], predict(calm)["direction"])


def test_rounding_makes_up_for_itself() -> None:
    """GPTQ keeps the products of a matrix nearer than rounding each entry for itself, with inputs that go together."""
    rng = np.random.default_rng(5)
    inputs = (rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 24))).astype(np.float32)
    weight = rng.normal(size=(24, 12)).astype(np.float32)
    for per_column in (False, True):
        levels, scale = rounded(weight, inputs, per_column=per_column)
        plain = np.round(weight / scale) * scale
        error = np.square(inputs @ (levels * scale - weight)).mean()
        assert error < 0.7 * np.square(inputs @ (plain - weight)).mean()
        assert levels.dtype == np.int8
        assert np.abs(levels * scale - weight).max() < 3 * scale.max(), "no entry moves far"
