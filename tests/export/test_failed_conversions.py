"""Conversions that go wrong: what fails is never published, and says why."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.export import conversion
from training.export.conversion import ExportError
from training.export.exported_files import ParityError
from training.export.formats import ONNX, TFLITE, export
from training.export.parity import check_parity
from training.export.reference_outputs import WindowsError


@pytest.fixture
def converter(exported, tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """A converter that delivers the real files after a Python statement was done to `data`."""

    def make(damage: str, only: str = "out") -> tuple[str, ...]:
        script = tmp_path / "converter.py"
        script.write_text(f"""
import argparse, pathlib, sys, os, time, numpy, onnx
parser = argparse.ArgumentParser()
for option in ("forecaster", "windows", "calibration", "out", "int8", "dynamic-range"):
    parser.add_argument("--" + option, type=pathlib.Path)
given = parser.parse_args()
for option in ("out", "int8", "dynamic_range"):
    path = getattr(given, option)
    if path is None:
        continue
    data = (pathlib.Path({str(exported.folder)!r}) / path.name).read_bytes()
    if option == {only!r}:
{textwrap.indent(damage or "pass", 8 * " ")}
    path.write_bytes(data)
""")
        return (sys.executable, str(script))

    return make


_NOISE = """
model = onnx.load_from_string(data)
for constant in model.graph.initializer:
    if constant.data_type == onnx.TensorProto.INT8:
        values = onnx.numpy_helper.to_array(constant)
        noise = numpy.random.default_rng(0).integers(-50, 50, values.shape)
        spoilt = numpy.clip(values + noise, -127, 127).astype(numpy.int8)
        constant.CopyFrom(onnx.numpy_helper.from_array(spoilt, constant.name))
data = model.SerializeToString()
"""


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
    "another model": (_change_a_weight("[16, 7]"), ParityError, "does not answer as the Keras model"),
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
        export(ONNX, exported.forecaster, out.parent, exported.windows, converter=converter(damage))
    assert out.read_bytes() == b"the former file"
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("damage", ["data = data[:len(data) // 2]", "data = b'not a flatbuffer' * 100"])
def test_a_broken_tflite_file_is_never_published(exported, converter, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "published" / "model.tflite"
    with pytest.raises(ParityError, match="cannot be run"):
        export(TFLITE, exported.forecaster, out.parent, exported.windows, converter=converter(damage))
    assert not list(out.parent.iterdir())


def test_an_intact_file_from_the_same_converter_is_published(exported, converter, tmp_path: Path) -> None:
    out = tmp_path / "published" / "model.onnx"
    made = export(ONNX, exported.forecaster, out.parent, exported.windows, converter=converter(""))
    assert made.files == (out,)
    assert out.read_bytes() == (exported.folder / "model.onnx").read_bytes()


def test_a_conversion_that_hangs_is_stopped(exported, converter, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"did not end within 1\.5 s") as caught:
        export(
            ONNX,
            exported.forecaster,
            tmp_path,
            exported.windows,
            timeout=1.5,
            converter=converter("time.sleep(60)"),
        )
    assert "longer time-out" in caught.value.remedy


def test_windows_that_cannot_be_compared_on_are_refused(exported, tmp_path: Path) -> None:
    bad = exported.windows.copy()
    bad[7, 3, 2] = np.nan
    with pytest.raises(WindowsError, match="1 of 400 windows"):
        export(ONNX, exported.forecaster, tmp_path, bad)
    with pytest.raises(WindowsError, match=r"expected \(n, 16, 5\)"):
        check_parity(exported.folder / "model.onnx", exported.forecaster, exported.windows[:, :, :4])


def test_quantised_files_are_published_only_if_they_agree(
    exported, converter, tmp_path, caplog, monkeypatch
) -> None:
    """The bound decides: files of the same forecaster, the real one and one with noise in its weights.

    It is lower here than it is for users: of this forecaster, of random weights, more windows are nearly undecided.
    """
    assert conversion.MIN_AGREEMENT == 0.99
    monkeypatch.setattr(conversion, "MIN_AGREEMENT", 0.975)
    for damage, agrees in (("", True), (_NOISE, False)):
        out = tmp_path / str(agrees) / "model.onnx"
        made = export(
            ONNX,
            exported.forecaster,
            out.parent,
            exported.windows,
            calibration=exported.windows[:8],
            converter=converter(damage, only="int8"),
        )
        report = made.reports["model.int8.onnx"]
        assert (report.agreement >= 0.975) is agrees
        assert out.with_name("model.int8.onnx").is_file() is agrees
        assert (out in made.files, len(made.files)) == (True, 1 + agrees)
    assert "model.int8.onnx is left out" in caplog.text


def test_a_crash_over_a_quantised_file_costs_only_that(exported, converter, tmp_path: Path, caplog) -> None:
    """The integer conversion dies; the float file, which is good, is published all the same."""
    out = tmp_path / "published" / "model.onnx"
    made = export(
        ONNX,
        exported.forecaster,
        out.parent,
        exported.windows,
        calibration=exported.windows[:8],
        converter=converter("os.abort()", only="int8"),
    )
    assert made.files == (out,)
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]
    assert "converting without int8" in caplog.text


def test_a_broken_quantised_file_is_left_out(exported, converter, tmp_path: Path, caplog) -> None:
    out = tmp_path / "published" / "model.tflite"
    made = export(
        TFLITE,
        exported.forecaster,
        out.parent,
        exported.windows,
        calibration=exported.windows[:8],
        converter=converter("data = data[:3000]", only="dynamic_range"),
    )
    assert "model.dynamic.tflite is left out" in caplog.text
    assert "model.dynamic.tflite" not in made.reports
    assert not out.with_name("model.dynamic.tflite").exists()
