"""Published features: versions, the pointer, what a reader sees when a writer dies."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernels.compute import FeatureBlock
from kernels.errors import KernelError
from kernels.feature_store import open_latest, publish


def block(seed: int, bars: int = 6) -> FeatureBlock:
    values = np.random.default_rng(seed).normal(size=(2, bars, 3)).astype(np.float32)
    values[0, 0] = np.nan
    return FeatureBlock(values, ("a_1", "b_2"), np.arange(bars, dtype=np.int64) * 60_000, ("X", "Y", "Z"))


def test_what_was_published_is_read(home):
    folder = publish(block(1), "1m", home, {"source": "test"})
    read = open_latest(home, "1m")
    assert np.array_equal(read.values, block(1).values, equal_nan=True)
    assert (read.names, read.symbols) == (("a_1", "b_2"), ("X", "Y", "Z"))
    assert np.array_equal(read.open_time, block(1).open_time)
    assert isinstance(read.values, np.memmap)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source"] == "test"
    assert manifest["names"] == ["a_1", "b_2"]
    assert manifest["catalogue_version"] >= 1
    assert {p.name for p in folder.iterdir()} == {"manifest.json", "values.npy", "open_time.npy"}


def test_two_versions_are_kept_and_the_latest_read(home):
    folders = [publish(block(seed, bars=seed + 2), "5m", home, {}) for seed in range(4)]
    assert [f.exists() for f in folders] == [False, False, True, True]
    assert open_latest(home, "5m").values.shape[1] == 5
    assert not [p for p in (home / "features" / "5m").iterdir() if p.name.startswith(".")]


def test_an_open_mapping_survives_later_versions(home):
    publish(block(0), "1m", home, {})
    mapped = open_latest(home, "1m").values
    for seed in range(1, 5):
        publish(block(seed), "1m", home, {})
    assert np.array_equal(mapped, block(0).values, equal_nan=True)


def test_publishing_the_same_again_is_the_same_version(home):
    first = publish(block(1), "1m", home, {})
    assert publish(block(1), "1m", home, {}) == first
    assert publish(replace(block(1), names=("a_1", "c_3")), "1m", home, {}) != first


def test_a_writer_that_dies_leaves_the_old_version(home, monkeypatch):
    publish(block(1), "1m", home, {})

    def die(path, array):
        raise KeyboardInterrupt

    monkeypatch.setattr("kernels.feature_store._save", die)
    with pytest.raises(KeyboardInterrupt):
        publish(block(2), "1m", home, {})
    assert np.array_equal(open_latest(home, "1m").values, block(1).values, equal_nan=True)
    assert not [p for p in (home / "features" / "1m").iterdir() if p.name.startswith(".")]


def test_errors_say_what_to_do(home):
    with pytest.raises(KernelError, match="have been published"):
        open_latest(home, "1m")
    folder = publish(block(1), "1m", home, {})
    (folder / "values.npy").write_bytes((folder / "values.npy").read_bytes()[:-8])
    with pytest.raises(KernelError, match="cannot be read"):
        open_latest(home, "1m")
    np.save(folder / "values.npy", np.zeros((2, 6, 4), dtype=np.float32))
    with pytest.raises(KernelError, match="do not fit together"):
        open_latest(home, "1m")


@pytest.mark.parametrize("name", ["values.npy", "open_time.npy", "manifest.json", "latest"])
@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe\x00"])
def test_a_damaged_file_is_told_and_mended_by_the_same_features(home, name, content):
    folder = publish(block(1), "1m", home, {})
    (folder.parent if name == "latest" else folder).joinpath(name).write_bytes(content)
    with pytest.raises(KernelError, match="cannot be read"):
        open_latest(home, "1m")
    assert publish(block(1), "1m", home, {}) == folder
    assert np.array_equal(open_latest(home, "1m").values, block(1).values, equal_nan=True)
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")]


def test_times_of_another_kind_do_not_fit(home):
    folder = publish(block(1), "1m", home, {})
    np.save(folder / "open_time.npy", np.arange(6.0))
    with pytest.raises(KernelError, match="float64"):
        open_latest(home, "1m")


WRITER = """
import os, sys
from pathlib import Path
import numpy as np
from kernels import feature_store
from kernels.compute import FeatureBlock
if sys.argv[3] == "dies":
    feature_store._write = lambda *_: os._exit(9)  # between the arrays and the manifest
for seed in range(30):
    values = np.random.default_rng([int(sys.argv[2]), seed]).normal(size=(2, 6, 3)).astype(np.float32)
    block = FeatureBlock(values, ("a_1", "b_2"), np.arange(6, dtype=np.int64) * 60_000, ("X", "Y", "Z"))
    feature_store.publish(block, "1m", Path(sys.argv[1]))
"""


def writer(home: Path, seed: int, fate: str = "lives") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(home), str(seed), fate])


def test_what_a_killed_writer_left_goes_with_the_next(home):
    parent = publish(block(1), "1m", home, {}).parent
    assert writer(home, 0, "dies").wait(timeout=120) == 9
    assert [p for p in parent.iterdir() if p.name.startswith(".")]
    assert np.array_equal(open_latest(home, "1m").values, block(1).values, equal_nan=True)
    publish(block(3), "1m", home, {})
    assert not [p for p in parent.iterdir() if p.name.startswith(".")]


def test_readers_see_whole_versions_while_two_write(home):
    publish(block(0), "1m", home, {})
    writers = [writer(home, seed) for seed in range(2)]
    while any(w.poll() is None for w in writers):
        assert open_latest(home, "1m").shape == (2, 6, 3)
    assert [w.returncode for w in writers] == [0, 0]


def test_a_full_disk_is_told(home, monkeypatch):
    def full(path, array):
        raise OSError("144 requested and 0 written")  # what numpy says of it

    monkeypatch.setattr("kernels.feature_store._save", full)
    with pytest.raises(KernelError, match="cannot be written") as caught:
        publish(block(2), "1m", home, {})
    assert "144 bytes to write" in caught.value.where
    assert not list((home / "features" / "1m").iterdir())
