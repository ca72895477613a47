"""Bundles are whole at every moment, whatever interrupts their writer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from training.errors import ForecasterError
from training.export import bundle as bundles
from training.export.bundle import (
    BundleError,
    add_file,
    create_bundle,
    list_bundles,
    read_current,
    read_manifest,
    set_current,
    verify_files,
)
from training.files import file_sha256
from training.network.forecaster_files import load_meta

CREATED = 1_761_190_200_000  # 2025-10-23 03:30


def make(home: Path, exported, files: tuple[str, ...] = ("model.onnx",), created_at: int = CREATED) -> Path:
    return create_bundle(
        home,
        exported.forecaster,
        files=[exported.folder / name for name in files],
        parity=exported.onnx.reports,
        metrics={"accuracy": 0.41},
        created_at=created_at,
        code_version="0.1.0",
    )


def test_manifest_tells_what_the_forecaster_is(home: Path, exported) -> None:
    bundle = make(home, exported, ("model.onnx", "model.tflite"))
    meta, manifest = load_meta(exported.forecaster), json.loads((bundle / "manifest.json").read_bytes())
    assert bundle.parent == home / "models"
    assert manifest["model_version"] == bundle.name
    assert bundle.name.startswith("20251023T033000Z-")
    assert manifest["format_version"] == 1
    assert tuple(manifest["feature_names"]) == meta.feature_names
    assert (manifest["window"], manifest["horizon"], manifest["intervals"]) == (16, 4, ["15m"])
    assert manifest["input"]["shape"] == ["batch", 16, 5]
    assert manifest["normalisation"]["inside_graph"] is True
    assert manifest["normalisation"]["mean"] == list(meta.normalisation.mean)
    assert manifest["training_span"] == {"start": 0, "end": 4_500_000}
    assert manifest["metrics"] == {"accuracy": 0.41}
    assert manifest["parity"]["model.onnx"]["windows"] == 400
    assert {"onnxruntime", "tf2onnx", "tensorflow", "keras (training)"} <= manifest["library_versions"].keys()
    for name in ("model.onnx", "model.tflite"):
        assert manifest["files"][name] == {
            "sha256": file_sha256(exported.folder / name),
            "bytes": (exported.folder / name).stat().st_size,
            "form": "float32",
        }


def test_the_same_forecaster_is_the_same_version(home: Path, exported) -> None:
    bundle = make(home, exported)
    before = (bundle / "manifest.json").stat().st_mtime_ns
    assert make(home, exported) == bundle
    assert (bundle / "manifest.json").stat().st_mtime_ns == before, "nothing changed, nothing is written"
    later = make(home, exported, created_at=CREATED + 900_000)
    assert list_bundles(home) == [bundle.name, later.name]


def test_a_file_is_added_later(home: Path, exported) -> None:
    bundle = make(home, exported)
    manifest = add_file(bundle, exported.folder / "model.tflite", parity=exported.tflite.reports)
    assert set(manifest.files) == {"model.onnx", "model.tflite"}
    quantised = {"model.int8.onnx", "model.dynamic.tflite", "model.int8.tflite"}
    assert set(manifest.parity) == {"model.onnx", "model.tflite", *quantised}
    assert verify_files(bundle) == manifest == read_manifest(bundle)
    assert make(home, exported) == bundle
    assert read_manifest(bundle) == manifest, "creating it again takes nothing away"


def test_a_published_file_never_changes(home: Path, exported, tmp_path: Path) -> None:
    bundle = make(home, exported)
    other = tmp_path / "model.onnx"
    other.write_bytes(b"another model")
    with pytest.raises(BundleError, match="a published file never changes"):
        add_file(bundle, other)
    verify_files(bundle)


def test_parallel_writers_lose_nothing(home: Path, exported, tmp_path: Path) -> None:
    bundle = make(home, exported)
    files = [tmp_path / f"extra{i}.tflite" for i in range(12)]
    for i, file in enumerate(files):
        file.write_bytes(bytes([i]) * 1000)
    threads = [threading.Thread(target=add_file, args=(bundle, file)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(verify_files(bundle).files) == {"model.onnx", *(file.name for file in files)}


@pytest.mark.parametrize("call", range(12))
def test_an_interruption_leaves_the_old_state_or_the_new(home, exported, monkeypatch, call: int) -> None:
    """The n-th durable step fails, as a full disk or a kill would have it; then everything is done again."""
    first = make(home, exported)
    set_current(home, first.name)
    steps = iter(range(100))

    def interrupt(real):
        def step(*arguments, **options):
            if next(steps) == call:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return step

    def update() -> Path:
        made = make(home, exported, created_at=CREATED + 1000)
        add_file(made, exported.folder / "model.tflite")
        set_current(home, made.name)
        return made

    with monkeypatch.context() as patch:
        for name in ("publish", "write_atomically", "flush_to_disk"):
            patch.setattr(bundles, name, interrupt(getattr(bundles, name)))
        patch.setattr(shutil, "copyfile", interrupt(shutil.copyfile))
        patch.setattr(Path, "rename", interrupt(Path.rename))
        try:
            update()
            interrupted = False
        except KeyboardInterrupt:
            interrupted = True
    assert interrupted == (call < 10), "each step was interrupted once"
    verify_files(read_current(home))
    for version in list_bundles(home):
        verify_files(home / "models" / version)
    made = update()
    assert set(verify_files(made).files) == {"model.onnx", "model.tflite"}
    assert read_current(home) == made
    left = [path.name for path in (home / "models").rglob(".*") if path.name != ".lock"]
    assert not left


def test_a_killed_writer_is_no_obstacle(home: Path, exported) -> None:
    """SIGKILL at an arbitrary moment of creating bundles in a loop."""
    script = f"""
from pathlib import Path
from training.export.bundle import create_bundle
print("ready", flush=True)
for i in range(10_000):
    create_bundle(Path({str(home)!r}), Path({str(exported.forecaster)!r}),
                  files=[Path({str(exported.folder / "model.onnx")!r})],
                  created_at={CREATED} + 1000 * i, code_version="0")
"""
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(0.35)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert list_bundles(home)
    for version in list_bundles(home):
        assert set(verify_files(home / "models" / version).files) == {"model.onnx"}
    make(home, exported)  # the lock is free, what was left is removed
    assert not list((home / "models").glob(".staging-*"))


def test_current_names_an_intact_version(home: Path, exported) -> None:
    assert read_current(home) is None
    first, second = make(home, exported), make(home, exported, created_at=CREATED + 1000)
    set_current(home, first.name)
    assert read_current(home) == first
    damaged = second / "model.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"SHA-256 [0-9a-f]{64} expected, [0-9a-f]{64} found"):
        set_current(home, second.name)
    assert read_current(home) == first
    with pytest.raises(BundleError) as caught:
        set_current(home, "20990101T000000Z-00000000")
    assert first.name in caught.value.remedy


def test_a_damaged_file_is_restored_by_exporting_again(home: Path, exported) -> None:
    bundle = make(home, exported)
    (bundle / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError):
        verify_files(bundle)
    add_file(bundle, exported.folder / "model.onnx")
    verify_files(bundle)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": 3}', b'{"version": "../../etc"}'])
def test_a_damaged_pointer_is_told(home: Path, exported, content: bytes) -> None:
    make(home, exported)
    (home / "models" / "current").write_bytes(content)
    with pytest.raises(BundleError, match="current model"):
        read_current(home)


def test_what_is_not_there_is_told(home: Path, exported, tmp_path: Path) -> None:
    with pytest.raises(ForecasterError):
        create_bundle(home, tmp_path, created_at=CREATED, code_version="0")
    with pytest.raises(BundleError, match="no model bundle"):
        read_manifest(tmp_path)
    with pytest.raises(BundleError, match="not a file for a bundle"):
        add_file(make(home, exported), tmp_path / "absent.onnx")
    broken = make(home, exported, created_at=CREATED + 5000)
    (broken / "manifest.json").write_text('{"format_version": 2}')
    with pytest.raises(BundleError, match="format_version"):
        read_manifest(broken)
