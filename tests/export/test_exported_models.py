"""The exported files answer as the Keras model does, and nothing else is ever published."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from training.conversion import ExportError
from training.export_onnx import export_onnx
from training.export_tflite import export_tflite
from training.parity import FLOAT_TOLERANCE, ParityError, check_parity, ensure_reference, open_exported
from training.reference_outputs import WindowsError

FLOAT_FILES = ("model.onnx", "model.tflite")
ALL_FILES = ("model.onnx", "model.int8.onnx", "model.tflite", "model.dynamic.tflite")


def test_float_files_keep_the_tolerance(exported) -> None:
    reports = {**exported.onnx.reports, **exported.tflite.reports}
    assert set(reports) == set(ALL_FILES)
    for name in FLOAT_FILES:
        assert reports[name].windows == 400
        assert max(reports[name].max_abs_difference.values()) <= FLOAT_TOLERANCE
        assert reports[name].agreement == 1
        assert (exported.folder / name).is_file()


def test_quantised_files_are_published_only_if_they_agree(exported) -> None:
    reports = {**exported.onnx.reports, **exported.tflite.reports}
    for name in ("model.int8.onnx", "model.dynamic.tflite"):
        assert reports[name].max_abs_difference["direction"] > FLOAT_TOLERANCE, "it is not quantised"
        assert (exported.folder / name).is_file() == (reports[name].agreement >= 0.99)


def test_the_reference_is_not_trivial(exported) -> None:
    reference = ensure_reference(exported.forecaster, exported.windows)
    assert len(np.unique(reference.direction.argmax(axis=1))) == 3
    assert (np.diff(reference.quantiles, axis=1) > 0).all()
    assert np.ptp(reference.direction, axis=0).min() > 0.1


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
    asking = ("training.export_onnx", "training.export_tflite", "training.parity", "training.bundle")
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
    ]
    model = onnx.load(exported.folder / "model.onnx")
    assert [o.version for o in model.opset_import if o.domain == ""] == [17]
    assert "LSTM" in {node.op_type for node in model.graph.node}


def test_tflite_has_builtin_operators_only(exported) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(exported.folder / "model.tflite"))
    operators = {op["op_name"] for op in interpreter._get_ops_details()}
    assert "WHILE" in operators
    assert not {name for name in operators if "Flex" in name or "CUSTOM" in name}


@pytest.mark.parametrize("name", FLOAT_FILES)
def test_answers_do_not_depend_on_the_batch(exported, name: str) -> None:
    predict = open_exported(exported.folder / name)
    together = predict(exported.windows[:60])
    alone = [predict(exported.windows[k : k + 1]) for k in range(60)]
    for output in ("direction", "quantiles"):
        assert together[output].shape == (60, 3)
        np.testing.assert_allclose(
            np.concatenate([answer[output] for answer in alone]), together[output], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", FLOAT_FILES)
def test_a_window_that_is_not_finite_gets_nan(exported, name: str, bad: float) -> None:
    predict = open_exported(exported.folder / name)
    windows = exported.windows[:80].copy()
    for k in range(16):  # every bar and every feature in turn, each in a window of its own
        windows[5 * k, k, k % 5] = bad
    spoilt = ~np.isfinite(windows).all(axis=(1, 2))
    assert spoilt.sum() == 16
    answers, clean = predict(windows), predict(exported.windows[:80])
    for output in ("direction", "quantiles"):
        assert np.isnan(answers[output][spoilt]).all()
        np.testing.assert_allclose(answers[output][~spoilt], clean[output][~spoilt], rtol=1e-5, atol=1e-6)


def test_a_bad_window_leaves_the_others_alone_in_int8(exported, again: Path) -> None:
    """Scales are taken over the batch: a NaN in them would spoil every answer."""
    predict = open_exported(again / "model.int8.onnx")
    windows = exported.windows[:40].copy()
    windows[7, 3, 2], windows[8, 15, 0] = np.nan, np.inf
    direction = predict(windows)["direction"]
    assert np.isnan(direction[7:9]).all()
    rest = np.delete(np.arange(40), [7, 8])
    np.testing.assert_allclose(direction[rest], predict(exported.windows[:40])["direction"][rest], atol=0.1)


def test_quantiles_scale_with_the_volatility_of_the_last_bar(exported) -> None:
    """The scaling is inside: clipped far out, the network sees the same, the quantiles double."""
    predict = open_exported(exported.folder / "model.onnx")
    calm, wild = exported.windows[:20].copy(), exported.windows[:20].copy()
    calm[:, -1, 1], wild[:, -1, 1] = 0.1, 0.2  # both beyond 8 standard deviations
    np.testing.assert_allclose(predict(wild)["quantiles"], 2 * predict(calm)["quantiles"], rtol=1e-5)
    np.testing.assert_array_equal(predict(wild)["direction"], predict(calm)["direction"])


# --- conversions that go wrong ---


@pytest.fixture
def converter(exported, tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """A converter that delivers the real files after a Python statement was done to `data`."""

    def make(damage: str) -> tuple[str, ...]:
        script = tmp_path / "converter.py"
        script.write_text(f"""
import argparse, pathlib, sys, os, time, onnx
parser = argparse.ArgumentParser()
for option in ("forecaster", "windows", "out", "int8"):
    parser.add_argument("--" + option, type=pathlib.Path)
given = parser.parse_args()
data = (pathlib.Path({str(exported.folder)!r}) / given.out.name).read_bytes()
{damage}
given.out.write_bytes(data)
""")
        return (sys.executable, str(script))

    return make


def _change_a_weight(shape: str) -> str:
    return f"""
model = onnx.load_from_string(data)
constant = next(c for c in model.graph.initializer if list(c.dims) == {shape})
values = onnx.numpy_helper.to_array(constant).copy()
values.flat[3] += 1e-2
constant.CopyFrom(onnx.numpy_helper.from_array(values, constant.name))
data = model.SerializeToString()
"""


BROKEN_ONNX = {
    "truncated": ("data = data[:-200]", ParityError, "cannot be run"),
    "empty": ("data = b''", ParityError, "cannot be run"),
    "another model": (_change_a_weight("[16, 3]"), ParityError, "does not answer as the Keras model"),
    "no file": ("sys.exit(0)", ExportError, "left no model.onnx"),
    "exception": ("raise ValueError('unsupported operator Frobnicate')", ExportError, "operator Frobnicate"),
    "crash": ("os.abort()", ExportError, "killed by signal 6"),
}


@pytest.mark.parametrize("case", BROKEN_ONNX)
def test_a_broken_onnx_file_is_never_published(exported, converter, tmp_path: Path, case: str) -> None:
    damage, error, message = BROKEN_ONNX[case]
    out = tmp_path / "published" / "model.onnx"
    out.parent.mkdir()
    out.write_bytes(b"the former file")
    with pytest.raises(error, match=message):
        export_onnx(exported.forecaster, out, exported.windows, int8=False, converter=converter(damage))
    assert out.read_bytes() == b"the former file"
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("damage", ["data = data[:len(data) // 2]", "data = b'not a flatbuffer' * 100"])
def test_a_broken_tflite_file_is_never_published(exported, converter, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "published" / "model.tflite"
    with pytest.raises(ParityError, match="cannot be run"):
        export_tflite(exported.forecaster, out, exported.windows, converter=converter(damage))
    assert not list(out.parent.iterdir())


def test_an_intact_file_from_the_same_converter_is_published(exported, converter, tmp_path: Path) -> None:
    out = tmp_path / "published" / "model.onnx"
    made = export_onnx(exported.forecaster, out, exported.windows, int8=False, converter=converter(""))
    assert made.files == (out,)
    assert out.read_bytes() == (exported.folder / "model.onnx").read_bytes()


def test_a_conversion_that_hangs_is_stopped(exported, converter, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"did not end within 1\.5 s") as caught:
        export_onnx(
            exported.forecaster,
            tmp_path / "model.onnx",
            exported.windows,
            timeout=1.5,
            converter=converter("time.sleep(60)"),
        )
    assert "longer time-out" in caught.value.remedy


def test_windows_that_cannot_be_compared_on_are_refused(exported, tmp_path: Path) -> None:
    bad = exported.windows.copy()
    bad[7, 3, 2] = np.nan
    with pytest.raises(WindowsError, match="1 of 400 windows"):
        export_onnx(exported.forecaster, tmp_path / "model.onnx", bad)
    with pytest.raises(WindowsError, match=r"expected \(n, 16, 5\)"):
        check_parity(exported.folder / "model.onnx", exported.forecaster, exported.windows[:, :, :4])
