"""Serving runs the form that is fastest here, if its answers are as good and as independent as the float file's."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from serving import form_choice
from serving.bundle import load_bundle
from serving.form_choice import CHOICE_FILE, ENOUGH, candidates, choose, measure, with_fastest_form
from serving.predictor import Predictor

GOOD = {
    "tolerance": None,
    "min_agreement": 0.99,
    "agreement": 0.995,
    "max_abs_difference": {"direction": 0.01},
}
BAD = {**GOOD, "agreement": 0.98}
INTEGERS = {**GOOD, "int8": {"batch": 1}}


@pytest.fixture
def several(home: Path, make_bundle, make_model):
    """A bundle with the given further files beside model.onnx."""

    def make(reports: dict[str, object], models: dict[str, bytes] | None = None) -> Path:
        folder = make_bundle(parity=reports)
        manifest = json.loads((folder / "manifest.json").read_text())
        for name in reports:
            content = (models or {}).get(name, make_model(seed=1))
            (folder / name).write_bytes(content)
            manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return make


def test_only_files_that_kept_their_bound_are_considered(home, several) -> None:
    several({"model.int8.onnx": GOOD, "model.dynamic.onnx": BAD, "model.int8.tflite": INTEGERS})
    assert candidates(load_bundle(home)) == ["model.onnx", "model.int8.onnx"]
    float_report = {
        **GOOD,
        "tolerance": 1e-5,
        "min_agreement": None,
        "max_abs_difference": {"direction": 2e-6},
    }
    apart = {**float_report, "max_abs_difference": {"direction": 2e-5}}
    several_reports = {"a.onnx": float_report, "b.onnx": apart, "c.onnx": {}, "d.onnx": None}
    assert [name for name, report in several_reports.items() if form_choice._passed(report)] == ["a.onnx"]


def test_the_fastest_that_is_clearly_faster_is_chosen() -> None:
    def forms(default: float, other: float, independent: bool = True) -> dict:
        return {
            "model.onnx": {"ms": default, "independent": True},
            "model.tflite": {"ms": other, "independent": independent},
        }

    assert choose(forms(10, 5)) == "model.tflite"
    assert choose(forms(10, 10 * ENOUGH + 0.01)) == "model.onnx"
    assert choose(forms(10, 12)) == "model.onnx"
    assert choose(forms(10, 1, independent=False)) == "model.onnx"


def test_a_slow_float_file_loses_by_measurement(home, several, make_model) -> None:
    """The other form answers the same and is many times smaller: the clock finds out."""
    folder = several({"model.int8.onnx": GOOD})
    slow = make_model(units=96)
    (folder / "model.onnx").write_bytes(slow)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.onnx"]["sha256"] = hashlib.sha256(slow).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    bundle = with_fastest_form(load_bundle(home))
    assert bundle.model_file == "model.int8.onnx"
    record = json.loads((folder / CHOICE_FILE).read_text())
    assert record["chosen"] == "model.int8.onnx"
    assert set(record["forms"]) == {"model.onnx", "model.int8.onnx"}
    assert record["forms"]["model.int8.onnx"]["ms"] < record["forms"]["model.onnx"]["ms"]
    assert record["machine"]["cores"] >= 1
    Predictor(bundle)


def test_a_measurement_is_kept_for_the_machine_it_was_made_on(home, several, monkeypatch) -> None:
    folder = several({"model.int8.onnx": GOOD})
    with_fastest_form(load_bundle(home))
    record = json.loads((folder / CHOICE_FILE).read_text())
    record["chosen"] = "model.int8.onnx"  # as if it had been the faster one
    (folder / CHOICE_FILE).write_text(json.dumps(record))
    measured = []
    monkeypatch.setattr(
        form_choice, "measure", lambda bundle, names: measured.append(names) or measure(bundle, names)
    )
    assert with_fastest_form(load_bundle(home)).model_file == "model.int8.onnx"
    assert measured == []
    monkeypatch.setattr(form_choice, "_machine", lambda: {"processor": "another"})
    with_fastest_form(load_bundle(home))
    assert measured == [["model.onnx", "model.int8.onnx"]]
    assert json.loads((folder / CHOICE_FILE).read_text())["machine"] == {"processor": "another"}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"chosen": "../../elsewhere.onnx"}'])
def test_a_damaged_record_is_measured_again(home, several, content: str) -> None:
    folder = several({"model.int8.onnx": GOOD})
    (folder / CHOICE_FILE).write_text(content)
    assert with_fastest_form(load_bundle(home)).model_file in {"model.onnx", "model.int8.onnx"}
    assert json.loads((folder / CHOICE_FILE).read_text())["chosen"]


def test_a_form_that_looks_at_its_neighbours_is_found_out(home, several) -> None:
    several({"model.int8.onnx": GOOD}, {"model.int8.onnx": _batch_dependent()})
    forms = measure(load_bundle(home), ["model.onnx", "model.int8.onnx"])
    assert [forms[name]["independent"] for name in forms] == [True, False]


def test_a_form_that_cannot_be_run_is_passed_over(home, several) -> None:
    several({"model.tflite": GOOD, "model.int8.onnx": GOOD}, {"model.tflite": b"no model"})
    bundle = load_bundle(home)
    assert set(measure(bundle, candidates(bundle))) == {"model.onnx", "model.int8.onnx"}


def test_one_form_needs_no_measurement(home, make_bundle) -> None:
    folder = make_bundle()
    assert with_fastest_form(load_bundle(home)).model_file == "model.onnx"
    assert not (folder / CHOICE_FILE).exists()


def test_a_bundle_that_cannot_be_written_to_is_served(home, several, monkeypatch, caplog) -> None:
    folder = several({"model.int8.onnx": GOOD})

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "open", refuse)
    form_choice._keep(folder / CHOICE_FILE, {"chosen": "model.onnx"})
    assert "cannot be kept" in caplog.text
    assert stat.S_ISDIR(folder.stat().st_mode)


def _batch_dependent() -> bytes:
    """Probabilities and quantiles of the window less the mean over the call."""
    window = ["batch", 16, 6]
    nodes = [
        helper.make_node("ReduceMean", ["window"], ["level"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["window", "level"], ["moved"]),
        helper.make_node("ReduceSum", ["moved", "axes"], ["score"], keepdims=0),
        helper.make_node("Slice", ["score", "from", "to", "last"], ["three"]),
        helper.make_node("Softmax", ["three"], ["direction"], axis=1),
        helper.make_node("Identity", ["three"], ["quantiles"]),
        helper.make_node("Slice", ["three", "from", "one", "last"], ["volatility"]),
    ]
    numbers = {"axes": [1], "from": [0], "to": [3], "one": [1], "last": [1]}
    constants = [onnx.numpy_helper.from_array(np.array(v, np.int64), k) for k, v in numbers.items()]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("direction", 3), ("quantiles", 3), ("volatility", 1))
    ]
    given = [helper.make_tensor_value_info("window", TensorProto.FLOAT, window)]
    graph = helper.make_graph(nodes, "neighbours", given, outputs, constants)
    return bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        ).SerializeToString()
    )
