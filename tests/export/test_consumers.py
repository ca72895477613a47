"""The examples in docs/ are what the page shows, and run where nothing of klinecast is installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import typing
import venv
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from training.export.bundle import create_bundle
from training.export.exported_files import open_exported
from training.export.manifest import Manifest
from training.export.parity import ensure_reference

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = {
    "consume_model.py": ("onnxruntime", ["onnxruntime"]),
    "consume_model_litert.py": ("ai-edge-litert", ["ai_edge_litert"]),
}
FILES = {
    "model.onnx": "consume_model.py",
    "model.int8.onnx": "consume_model.py",
    "model.tflite": "consume_model_litert.py",
    "model.dynamic.tflite": "consume_model_litert.py",
    "model.int8.tflite": "consume_model_litert.py",
}
FOREIGN = ("training", "serving", "kernels", "market", "assets", "tensorflow", "keras", "polars", "pydantic")


@pytest.fixture(scope="session")
def bundle(exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_bundle(
        tmp_path_factory.mktemp("consumer"),
        exported.forecaster,
        files=exported.files,
        parity={**exported.onnx.reports, **exported.tflite.reports},
        created_at=1_761_190_200_000,
        code_version="0.1.0",
    )


@pytest.fixture(scope="session")
def features(exported, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten windows as a consumer has them: an array per feature; the names in no particular order."""
    path = tmp_path_factory.mktemp("features") / "features.npz"
    names = Manifest.model_validate_json((bundle / "manifest.json").read_bytes()).feature_names
    columns = {name: exported.windows[:10, :, i].astype(np.float64) for i, name in enumerate(names)}
    np.savez(path, **dict(sorted(columns.items(), reverse=True)))
    return path


@pytest.fixture
def consumer(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """An example, and a Python that has the runtime and what it requires, and nothing else."""
    return _consumer(request.param, tmp_path)


def _consumer(example: str, tmp_path: Path) -> tuple[Path, Path]:
    distribution, packages = EXAMPLES[example]
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    site_packages = next(environment.glob("lib/python3*/site-packages"))
    for name in _required(distribution):
        for top in _top_level(name):
            (site_packages / top.name).symlink_to(top)
    assert all((site_packages / package).exists() for package in packages)
    return environment / "bin" / "python", DOCS / "examples" / example


def _required(distribution: str) -> set[str]:
    """The distribution and all that it requires, optional extras left out."""
    found, todo = set(), [distribution]
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for requirement in map(Requirement, importlib.metadata.requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return found


def _top_level(distribution: str) -> list[Path]:
    """Files and folders of a distribution, in the folder where it is installed."""
    found = importlib.metadata.distribution(distribution)
    tops = {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}
    return [Path(str(found.locate_file(top))) for top in sorted(tops)]


def _run(consumer: tuple[Path, Path], *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    python, example = consumer
    return subprocess.run([python, example, *arguments], capture_output=True, text=True, cwd="/", env={})


@pytest.mark.parametrize("file", FILES)
def test_runs_without_klinecast_and_answers_as_keras(
    exported, bundle: Path, features: Path, tmp_path: Path, file: str
) -> None:
    consumer = _consumer(FILES[file], tmp_path)
    importable = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    here = [name for name in FOREIGN if importlib.util.find_spec(name)]
    assert len(here) == len(FOREIGN), "the probe below would find nothing anyway"
    probe = subprocess.run(
        [consumer[0], "-c", importable, *FOREIGN], capture_output=True, text=True, cwd="/", env={}, check=True
    )
    assert probe.stdout.strip() == "[]"

    done = _run(consumer, bundle, features, file)
    assert done.returncode == 0, done.stderr
    answers = np.array([re.findall(r"[-+]?\d+\.\d{6}", line) for line in done.stdout.splitlines()], float)
    reference = ensure_reference(exported.forecaster, exported.windows)
    expected = np.hstack([reference.direction[:10], reference.quantiles[:10], reference.volatility[:10]])
    report = {**exported.onnx.reports, **exported.tflite.reports}[file]
    np.testing.assert_allclose(answers, expected, atol=1.5e-5 if report.tolerance else 0.05)
    said = open_exported(bundle / file)(exported.windows[:10])
    np.testing.assert_allclose(answers, np.hstack(list(said.values())), atol=2e-6, rtol=1e-5)
    assert done.stdout.splitlines()[0].split()[::2] == [
        "down",
        "flat",
        "up",
        "q0.1",
        "q0.5",
        "q0.9",
        "volatility",
    ]


@pytest.mark.parametrize("consumer", EXAMPLES, indirect=True)
def test_no_answer_for_an_incomplete_window(
    consumer, exported, bundle: Path, features: Path, tmp_path: Path
) -> None:
    with np.load(features) as stored:
        columns = {name: values.copy() for name, values in stored.items()}
    columns["hour_sin"][3, 7] = np.nan
    np.savez(tmp_path / "holed.npz", **columns)
    lines = _run(consumer, bundle, tmp_path / "holed.npz").stdout.splitlines()
    whole = _run(consumer, bundle, features).stdout.splitlines()
    assert "nan" in lines[3] or lines[3] == "no answer"
    assert not re.search(r"\d\.\d{6}", lines[3])
    assert lines[:3] + lines[4:] == whole[:3] + whole[4:]


@pytest.mark.parametrize("consumer", EXAMPLES, indirect=True)
def test_refuses_a_damaged_bundle(consumer, bundle: Path, features: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "model.tflite").write_bytes((copy / "model.tflite").read_bytes() + b"\0")
    done = _run(consumer, copy, features)
    assert done.returncode == 1
    assert done.stderr.strip() == "model.tflite is not the file that was published: fetch the bundle again"
    assert not done.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_shows_the_example(name: str) -> None:
    code = (DOCS / "examples" / name).read_text()
    assert f"```python\n{code}```" in (DOCS / "artifacts.md").read_text()
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 36
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))
    allowed = {"hashlib", "json", "sys", "pathlib", "numpy", "onnxruntime", "ai_edge_litert"}
    assert imported <= allowed


def test_the_page_tells_every_field_of_the_manifest() -> None:
    table = re.findall(r"^\| `(\w+)` \| (.*?) \|$", (DOCS / "artifacts.md").read_text(), re.MULTILINE)
    fields = [(name, field.description) for name, field in Manifest.model_fields.items()]
    assert table == fields, (
        "the table is: | `field` | description |, in the order of training/export/manifest.py"
    )
    assert typing.get_args(Manifest.model_fields["format_version"].annotation) == (1,)
