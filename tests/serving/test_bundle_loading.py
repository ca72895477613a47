"""A bundle is used only if every byte of it is what was exported."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from serving.bundle import load_bundle
from serving.errors import BundleError
from serving.predictor import CHUNK, Predictor


def refusal(home, version=None) -> BundleError:
    with pytest.raises(BundleError) as caught:
        load_bundle(home, version)
    assert caught.value.remedy
    return caught.value


def test_the_current_bundle_is_loaded_and_others_by_name(home, make_bundle) -> None:
    make_bundle("v1", horizon=3)
    folder = make_bundle("v2", horizon=6)
    assert (load_bundle(home).version, load_bundle(home).horizon) == ("v2", 6)
    assert load_bundle(home, "v1").horizon == 3
    assert load_bundle(folder).folder == folder, "a bundle's own folder, wherever it lies"


def test_a_changed_byte_is_found_and_both_hashes_are_told(home, make_bundle) -> None:
    path = make_bundle() / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    error = refusal(home)
    assert error.where == str(path)
    expected = json.loads((path.parent / "manifest.json").read_text())["files"]["model.onnx"]["sha256"]
    assert expected in error.what
    assert error.what.count(", ") == 1
    assert len(error.what.split("expected, ")[1].split()[0]) == 64


def test_a_file_swapped_after_the_check_is_not_run(home, make_bundle, make_model) -> None:
    folder = make_bundle()
    bundle = load_bundle(home)
    (folder / "model.onnx").write_bytes(make_model(seed=1))
    with pytest.raises(BundleError, match="SHA-256"):
        Predictor(bundle)


def test_an_absent_file_is_named(home, make_bundle) -> None:
    path = make_bundle() / "model.onnx"
    path.unlink()
    assert refusal(home).where == str(path)


@pytest.mark.parametrize(
    "entry",
    [
        "model_version",
        "feature_names",
        "window",
        "horizon",
        "classes",
        "quantiles",
        "intervals",
        "outputs",
        "files",
        "metrics",
    ],
)
def test_a_manifest_without_an_entry_says_which(home, make_bundle, entry: str) -> None:
    folder = make_bundle(**{entry: None})
    error = refusal(home)
    assert entry in error.what
    assert error.where == str(folder / "manifest.json")


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("format_version", 2),
        ("window", 0),
        ("window", True),
        ("feature_names", ["rsi_14", "rsi_14"]),
        ("quantiles", [10, 50, 90]),
        ("outputs", [{"name": "direction"}, "quantiles"]),
        ("files", {"../outside": {"sha256": "0" * 64}}),
        ("metrics", {"serving_file": "model.int8.onnx"}),
        ("model_version", "another"),
    ],
)
def test_a_manifest_with_a_wrong_entry_is_refused(home, make_bundle, entry: str, value: object) -> None:
    make_bundle("v1", **{entry: value})
    assert str(load_error := refusal(home, "v1")).count("\n") == 2, load_error


def test_the_file_that_the_metrics_choose_is_served(home, make_bundle, make_model) -> None:
    folder = make_bundle(model=make_model(seed=5))
    (folder / "model.onnx").rename(folder / "model.int8.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {"model.int8.onnx": manifest["files"]["model.onnx"]}
    manifest["metrics"] = {"serving_file": "model.int8.onnx"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    bundle = load_bundle(home)
    assert bundle.model_file == "model.int8.onnx"
    Predictor(bundle)


@pytest.mark.parametrize(
    "pointer", ["{", '{"version": "../../elsewhere"}', '{"version": 3}', "[]", '{"version": "v9"}']
)
def test_a_bad_pointer_is_refused(home, make_bundle, pointer: str) -> None:
    make_bundle()
    (home / "models" / "current").write_text(pointer)
    refusal(home)


def test_before_the_first_export(home) -> None:
    assert "train_and_export" in refusal(home).remedy


def test_a_model_of_another_shape_is_refused(home, make_bundle, make_model) -> None:
    make_bundle(model=make_model(features=5))
    with pytest.raises(BundleError, match=r"16, 6.*16, 5"):
        Predictor(load_bundle(home))


def test_a_model_without_an_output_that_the_manifest_names_is_refused(home, make_bundle, make_model) -> None:
    make_bundle(model=make_model(volatility=False))
    with pytest.raises(BundleError, match="volatility"):
        Predictor(load_bundle(home))


def test_a_file_that_is_no_model_is_refused(home, make_bundle) -> None:
    make_bundle(model=b"not a model")
    with pytest.raises(BundleError, match="cannot load"):
        Predictor(load_bundle(home))


def test_errors_travel_between_processes(home) -> None:
    error = refusal(home)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (BundleError, str(error))


def test_a_window_s_answer_does_not_depend_on_its_neighbours_or_threads(
    home, make_bundle, bundle_windows
) -> None:
    make_bundle()
    one, many = (Predictor(load_bundle(home), threads) for threads in (1, 3))
    windows = bundle_windows(3 * CHUNK + 5)
    every = one.predict(windows)
    again = many.predict(windows)
    assert every.direction.tobytes() == again.direction.tobytes()
    assert every.quantiles.tobytes() == again.quantiles.tobytes()
    assert every.volatility.tobytes() == again.volatility.tobytes()
    for chosen in ([7], [50, 3], list(range(20, 45))):
        some = one.predict(windows[chosen])
        assert some.direction.tobytes() == every.direction[chosen].tobytes()
        assert some.quantiles.tobytes() == every.quantiles[chosen].tobytes()
        assert some.volatility.tobytes() == every.volatility[chosen].tobytes()
    assert one.predict(windows[:0]).direction.shape == (0, 3)


def test_serving_loads_no_training_and_no_tensorflow() -> None:
    code = "import serving.sweep, serving.readiness, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"tensorflow", "keras", "training", "onnx", "sklearn", "dagster", "duckdb"} & set(loaded)
    assert "onnxruntime" in loaded


@pytest.fixture
def bundle_windows():
    def make(count: int):
        return np.random.default_rng(3).normal(size=(count, 16, 6)).astype(np.float32)

    return make
