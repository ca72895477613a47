"""Pages of file maps are let go of, and nothing is lost by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kernels.file_maps import read_planes, release_pages

SHAPE = (4, 1_000, 1_000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    values = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    np.save(tmp_path / "values.npy", values)
    return tmp_path / "values.npy"


def pages_of_files() -> float:
    """MiB of this process's memory that are pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile:")) / 1024


@pytest.mark.parametrize("view", [lambda a: a, np.asarray, lambda a: a[1:3].transpose(2, 1, 0)[5:]])
def test_pages_are_let_go_of(file: Path, view) -> None:
    values = np.load(file, mmap_mode="r")
    before = pages_of_files()
    total = float(values.sum(dtype=np.float64))
    assert pages_of_files() > before + 12
    release_pages(view(values))
    assert pages_of_files() < before + 2
    assert float(values.sum(dtype=np.float64)) == total


def test_planes_are_read_one_at_a_time(file: Path) -> None:
    values = np.load(file, mmap_mode="r")
    before = pages_of_files()
    most, seen = 0.0, []
    for plane in read_planes(values, [3, 0, 2], 100, 900):
        seen.append(plane.copy())
        most = max(most, pages_of_files())
    assert np.array_equal(np.stack(seen), np.load(file)[[3, 0, 2], 100:900])
    assert most < before + 10, "a plane is 4 MiB, and the system maps around it"


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_what_was_written_stays(file: Path, mode: str) -> None:
    values = np.load(file, mmap_mode=mode)
    values[2, 5] = -1
    release_pages(values)
    assert (values[2, 5] == -1).all()
    assert (np.load(file)[2, 5] == -1).all() == (mode == "r+")


def test_other_arrays_are_left_alone() -> None:
    values = np.ones((3, 4))
    release_pages(values, values[1:])
    assert (values == 1).all()
