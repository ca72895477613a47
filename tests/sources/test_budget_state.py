"""The file that holds a host's budget: whose it is, what becomes of a damaged or forgotten one, what it costs."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import pytest

from market.errors import MarketError
from market.rate_limit import RequestBudget, budget_of
from market.rate_state import BudgetState, FileMemory, state_file, state_folder


def test_the_state_lies_with_the_user_and_is_for_nobody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert state_folder() == tmp_path / "state" / "klinecast" / "limits"
    budget_of("api.example.com:443").pause(1)
    path = state_file(state_folder(), "api.example.com:443")
    assert path.name == "api.example.com%3A443"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    assert state_folder() == Path.home() / ".local" / "state" / "klinecast" / "limits"


def test_a_state_that_cannot_be_kept_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MarketError, match="XDG_STATE_HOME"):
        FileMemory(tmp_path / "file" / "host")
    memory = FileMemory(tmp_path / "host")
    with memory.change() as state:
        state.used = 5
    content = (tmp_path / "host").read_bytes()
    (tmp_path / "host").write_bytes(content[:8] + b"\x09" + content[9:])
    with pytest.raises(MarketError, match="version 9"), memory.change():
        pass


@pytest.mark.parametrize("left", [b"", b"\0" * 200, b"klbudget", b"nonsense" * 40])
def test_a_damaged_state_is_that_of_a_new_host(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "host").write_bytes(left)
    with FileMemory(tmp_path / "host").change() as state:
        assert state == BudgetState()
        state.used = 7
        state.claim(1, 5, 3.0)
    with FileMemory(tmp_path / "host").change() as state:
        assert state.used == 7
        assert state.in_flight() == 5


def test_states_that_nobody_uses_any_more_are_cleared_away(tmp_path: Path) -> None:
    idle = FileMemory(tmp_path / "idle")
    with idle.change() as state:
        state.used = 5
    week_ago = time.time() - 8 * 86_400
    os.utime(tmp_path / "idle", (week_ago, week_ago))
    with FileMemory(tmp_path / "host").change() as state:
        state.used = 1
    assert [path.name for path in tmp_path.iterdir()] == ["host"]
    with idle.change() as state:  # the process that still had it open goes on with a new file
        assert state.used == 0
        state.used = 9
    with FileMemory(tmp_path / "idle").change() as state:
        assert state.used == 9


def test_a_forked_child_and_threads_do_not_share_a_lock(tmp_path: Path) -> None:
    memory = FileMemory(tmp_path / "host")
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(300):
                    with memory.change() as state:
                        state.used += 1
            finally:
                os._exit(0)
        children.append(child)
    for _ in range(300):
        with memory.change() as state:
            state.used += 1
    for child in children:
        os.waitpid(child, 0)
    with memory.change() as state:
        assert state.used == 1_200


def test_asking_for_leave_is_cheap(tmp_path: Path) -> None:
    """What a request pays, in processor time: an `acquire` below 50 microseconds."""
    budget = RequestBudget(10**9, memory=FileMemory(tmp_path / "host"))
    took = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(400):
            budget.try_acquire(2)
            budget.settle(2, 2)
        took.append((time.process_time() - started) / 400 / 2)
    assert statistics.median(took) < 50e-6
