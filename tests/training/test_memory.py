"""Memory while a training set is built: a few pieces, not the set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from training.data.set_arrays import CHUNK_VALUES

REPOSITORY = Path(__file__).resolve().parents[2]


def grown_by(folder: Path, chunk_values: int) -> tuple[float, float]:
    """MiB that a process grew by while it built a set, and MiB of features in the set."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.training.build_in_little_memory", str(folder), str(chunk_values)]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120)
    grown, size = map(float, answer.stdout.split())
    return grown, size


def test_building_needs_a_few_pieces_of_a_set_that_is_larger(tmp_path: Path) -> None:
    """Pages of file maps are counted too. In one piece, the same measure exceeds the set."""
    grown, size = grown_by(tmp_path / "pieces", CHUNK_VALUES)
    assert size > 95
    assert grown < 64
    assert grown_by(tmp_path / "whole", 1 << 40)[0] > size
