"""Serving runs the form that is fastest here, if its answers are as good and as independent as the float file's."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from assets.readiness import served_model
from serving import form_choice, form_record
from serving.bundle import load_bundle
from serving.errors import BundleError
from serving.form_choice import ENOUGH, ROUNDS, WINS, choose, measure, with_fastest_form
from serving.form_record import CHOICE_FILE, candidates, chosen_form
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
    assert [name for name, report in several_reports.items() if form_record._passed(report)] == ["a.onnx"]


def test_the_fastest_that_is_clearly_faster_is_chosen() -> None:
    def forms(ratio: float, wins: int = ROUNDS, independent: bool = True) -> dict:
        return {
            "model.onnx": {"ratio": 1.0, "wins": 0, "independent": True},
            "model.tflite": {"ratio": ratio, "wins": wins, "independent": independent},
        }

    assert choose(forms(0.5)) == choose(forms(ENOUGH, WINS)) == "model.tflite"
    assert choose(forms(ENOUGH + 0.001)) == "model.onnx"
    assert choose(forms(0.5, WINS - 1)) == "model.onnx", "fast, but not every time"
    assert choose(forms(0.1, independent=False)) == "model.onnx"
    both = {**forms(0.7), "model.int8.onnx": {"ratio": 0.6, "wins": ROUNDS, "independent": True}}
    assert choose(both) == "model.int8.onnx"


def test_rounds_are_compared_with_themselves() -> None:
    """The machine is busy in most of the rounds that the other form is timed in, and then in both."""
    found = form_choice._beside([10, 30, 31, 10, 32, 30, 11, 9, 10], [10, 31, 30, 10, 33, 29, 11, 10, 10])
    assert found == {"ratio": 1.0, "wins": 3}


def test_a_slow_float_file_loses_by_measurement(home, several, make_model) -> None:
    """The other form answers the same and is many times smaller: the clock finds out."""
    folder = several({"model.int8.onnx": GOOD})
    slow = make_model(units=256)
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
    assert served_model(home) is None, "there is no model yet"
    folder = several({"model.int8.onnx": GOOD})
    version = load_bundle(home).version
    assert served_model(home) == f"{version}, file to be chosen by the next sweep"
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
    assert served_model(home) == f"{version}, model.int8.onnx"
    monkeypatch.setattr(form_record, "_machine", lambda: {"processor": "another"})
    with_fastest_form(load_bundle(home))
    assert measured == [["model.onnx", "model.int8.onnx"]]
    assert json.loads((folder / CHOICE_FILE).read_text())["machine"] == {"processor": "another"}


def test_it_is_told_whether_anything_is_measured(home, several) -> None:
    several({"model.int8.onnx": GOOD})
    told: list[str] = []
    chosen = form_choice.form_choice(load_bundle(home), told.append)["chosen"]
    form_choice.form_choice(load_bundle(home), told.append)
    assert told == [
        "measuring which file answers fastest here",
        f"serving runs {chosen} here, as measured before",
    ]


def test_a_damaged_record_is_measured_again(home, several, monkeypatch) -> None:
    folder = several({"model.int8.onnx": GOOD})
    good = form_choice.form_choice(load_bundle(home))
    measured = []
    monkeypatch.setattr(form_choice, "measure", lambda *_: measured.append(1) or good["forms"])
    contents: list[str | dict] = [
        "",
        "[]",
        "{",
        "null",
        "\x00",
        '{"files": 5}',
        '{"files": null, "chosen": "x"}',
    ]
    contents += [{**good, "chosen": ["model.onnx"]}, {**good, "chosen": "../../elsewhere.onnx"}]
    contents += [{**good, "forms": None}, {**good, "forms": {"model.onnx": 1}}]
    for times, content in enumerate(contents, start=1):
        (folder / CHOICE_FILE).write_text(content if isinstance(content, str) else json.dumps(content))
        assert chosen_form(load_bundle(home)) is None
        assert with_fastest_form(load_bundle(home)).model_file == good["chosen"]
        assert len(measured) == times, content
        assert json.loads((folder / CHOICE_FILE).read_text()) == good


def test_a_form_that_looks_at_its_neighbours_is_found_out(home, several) -> None:
    several({"model.int8.onnx": GOOD}, {"model.int8.onnx": _batch_dependent()})
    forms = measure(load_bundle(home), ["model.onnx", "model.int8.onnx"])
    assert [forms[name]["independent"] for name in forms] == [True, False]


def test_a_form_that_cannot_be_run_is_passed_over(home, several) -> None:
    several({"model.tflite": GOOD, "model.int8.onnx": GOOD}, {"model.tflite": b"no model"})
    bundle = load_bundle(home)
    assert set(measure(bundle, candidates(bundle))) == {"model.onnx", "model.int8.onnx"}


def test_a_form_that_loads_and_fails_when_it_is_run_is_passed_over(home, several, caplog) -> None:
    several({"model.int8.onnx": GOOD}, {"model.int8.onnx": _batch_dependent(fails=True)})
    bundle = load_bundle(home)
    assert form_choice.form_choice(bundle)["chosen"] == "model.onnx"
    assert "model.int8.onnx is not considered" in caplog.text
    with pytest.raises(BundleError, match="cannot run the model"):
        measure(bundle, ["model.int8.onnx"])


def test_one_form_needs_no_measurement(home, make_bundle) -> None:
    folder = make_bundle()
    assert chosen_form(load_bundle(home)) == "model.onnx"
    assert with_fastest_form(load_bundle(home)).model_file == "model.onnx"
    assert not (folder / CHOICE_FILE).exists()


def test_a_bundle_that_cannot_be_written_to_is_served_the_same_each_time(
    home, several, monkeypatch, caplog
) -> None:
    """Else every restart measured again, and could choose another file, with other answers."""
    folder = several({"model.int8.onnx": GOOD})
    in_the_way = folder / f".{CHOICE_FILE}.{os.getpid()}.part"
    in_the_way.mkdir()  # permissions would not keep root out
    monkeypatch.setattr(form_choice, "measure", lambda *_: pytest.fail("measured"))
    for _ in range(3):
        assert with_fastest_form(load_bundle(home)).model_file == "model.onnx"
    assert caplog.text.count("no choice can be kept") == 1
    assert not (folder / CHOICE_FILE).exists()
    record = {"machine": form_record._machine()}  # a choice that came with the bundle is good
    monkeypatch.setattr(form_choice, "facts_of", lambda *_: record)
    kept = {**record, "forms": {"model.int8.onnx": {}}, "chosen": "model.int8.onnx"}
    (folder / CHOICE_FILE).write_text(json.dumps(kept))
    assert with_fastest_form(load_bundle(home)).model_file == "model.int8.onnx"


def _batch_dependent(*, fails: bool = False) -> bytes:
    """Probabilities and quantiles of the window less the mean over the call; or a graph that fails for any batch."""
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
    if fails:
        numbers |= {"shape": [7, 5]}
        nodes[-1].output[0] = "unreachable"
        nodes += [
            helper.make_node("Reshape", ["unreachable", "shape"], ["odd"]),
            helper.make_node("ReduceMax", ["odd"], ["most"], keepdims=0),
            helper.make_node("Add", ["unreachable", "most"], ["volatility"]),
        ]
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
