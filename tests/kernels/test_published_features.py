"""Published features: versions, the pointer, what a reader sees when a writer dies."""

from __future__ import annotations

import json
from dataclasses import replace

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
