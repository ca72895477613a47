"""Locks: who waits, who gives up, and that a lock file may be removed by its holder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from training.files import remove_unless_held, scratch_folder
from training.locks import HeldError, at_once, waiting


def test_one_gives_up_and_one_waits_and_tells(tmp_path: Path) -> None:
    lock, told, second = tmp_path / "turns" / "a", threading.Event(), threading.Event()

    def wait() -> None:
        with waiting(lock, told.set):
            second.set()

    with waiting(lock):
        with pytest.raises(HeldError), at_once(lock):
            pass
        thread = threading.Thread(target=wait)
        thread.start()
        assert told.wait(10)
        assert not second.is_set()
    thread.join(10)
    assert second.is_set()
    with at_once(lock):
        pass


def test_who_waited_for_a_lock_file_that_was_removed_holds_the_new_one(tmp_path: Path) -> None:
    """Else two would hold locks of one name: one that is gone, and one that is there."""
    lock, told, held, end = tmp_path / "a", threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        with waiting(lock, told.set):
            held.set()
            end.wait(10)

    thread = threading.Thread(target=wait)
    with waiting(lock):
        thread.start()
        assert told.wait(10)
        lock.unlink()
    assert held.wait(10)
    with pytest.raises(HeldError), at_once(lock):
        pass
    end.set()
    thread.join(10)


def _work_and_die(parent: Path) -> None:
    with scratch_folder(parent, ".export-") as folder:
        (folder / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_killed_processes_left_of_their_work_goes_and_nothing_else(tmp_path: Path) -> None:
    for _ in range(2):
        killed = multiprocessing.get_context("fork").Process(target=_work_and_die, args=(tmp_path,))
        killed.start()
        killed.join()
    assert len(list(tmp_path.iterdir())) == 1, "the second removed what the first had left"
    with scratch_folder(tmp_path, ".export-") as mine, scratch_folder(tmp_path, ".card-") as other:
        with scratch_folder(tmp_path, ".export-") as beside:
            assert set(tmp_path.iterdir()) == {mine, other, beside}
        assert not remove_unless_held(mine)
    assert not list(tmp_path.iterdir())
    assert not remove_unless_held(tmp_path / "nothing")
    assert not list(tmp_path.iterdir()), "what is not there is not made"
