"""Files and folders that others write at the same time, and files that are damaged."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.baselines.protocol import Said
from training.data.training_set import _map
from training.errors import TrainingSetError
from training.files import new_folder
from training.fitting.checkpoint import CHECKPOINT_FILE, RunState, load_checkpoint, save_checkpoint
from training.judgement import forecasts


def _fill_and_die(path: Path) -> None:
    with new_folder(path) as folder:
        (folder / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_two_may_fill_a_folder_and_what_a_killed_one_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "set"
    killed = multiprocessing.get_context("fork").Process(target=_fill_and_die, args=(path,))
    killed.start()
    killed.join()
    assert len(list(tmp_path.iterdir())) == 1, "it left a folder"
    with new_folder(path) as first:
        assert list(tmp_path.iterdir()) == [first]
        (first / "of").write_text("the first")
        with new_folder(path) as second:
            (second / "of").write_text("the second")
        assert (path / "of").read_text() == "the second"
        (first / "more").write_text("more")
    assert {file.name: file.read_text() for file in path.iterdir()} == {"of": "the first", "more": "more"}
    with pytest.raises(KeyError), new_folder(path):
        raise KeyError
    assert list(tmp_path.iterdir()) == [path]


def _every_damage(file: Path, read: Callable[[], object]) -> None:
    """Change every byte in two ways, and cut the file at every eleventh: nothing but an answer comes of it."""
    good = file.read_bytes()
    for at in range(len(good)):
        for mask in (0x01, 0xFF):
            file.write_bytes(good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :])
            read()
    for length in range(0, len(good), 11):
        file.write_bytes(good[:length])
        read()


@pytest.mark.filterwarnings("ignore")  # of NumPy and zipfile, about what they find
def test_damaged_arrays_are_taken_for_what_they_are(tmp_path: Path) -> None:
    checkpoint, kept, array = tmp_path / CHECKPOINT_FILE, tmp_path / "forecasts.npz", tmp_path / "a.npy"
    save_checkpoint(tmp_path, RunState(run_id="x"), {"network": [np.ones(3)]})
    found = load_checkpoint(tmp_path, "x")
    assert found is not None and np.array_equal(found[1]["network"][0], np.ones(3))
    _every_damage(checkpoint, lambda: load_checkpoint(tmp_path, "x"))
    forecasts._write(kept, forecasts.Made(Said(score=np.ones(2), predicted=np.ones(2, int)), 1.0, 1.0))
    assert forecasts._read(kept) is not None
    _every_damage(kept, lambda: forecasts._read(kept))
    np.save(array, np.ones((2, 2), np.float32))

    def read() -> None:
        with contextlib.suppress(TrainingSetError):
            _map(array)

    _every_damage(array, read)
    array.write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(TrainingSetError, match="damaged"):
        _map(array)
