"""How budgets on one file share a limit: by a clock that the tests set, without an exchange."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from market.rate_limit import RequestBudget
from market.rate_state import FileMemory


class Clock:
    def __init__(self) -> None:
        self.now = 60.0 * 1000

    def __call__(self) -> float:
        return self.now


def budgets(path: Path, count: int, limit: int, clock: Clock) -> list[RequestBudget]:
    """As many budgets as processes would have: each with its own open file."""
    return [RequestBudget(limit, clock=clock, memory=FileMemory(path)) for _ in range(count)]


def test_what_a_killed_process_had_reserved_is_free_again(tmp_path: Path) -> None:
    path = tmp_path / "limits" / "host"
    work = (
        "import os, signal, sys; from pathlib import Path;"
        "from market.rate_limit import RequestBudget; from market.rate_state import FileMemory;"
        "budget = RequestBudget(100, slow_from=1.0, ceiling=1.0, memory=FileMemory(Path(sys.argv[1])));"
        "assert budget.try_acquire(60) == 0; print('reserved', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", work, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"reserved\n"
    mine = RequestBudget(100, slow_from=1.0, ceiling=1.0, memory=FileMemory(path))
    assert mine.try_acquire(60) > 0, "the other process's reservation counts"
    assert mine.try_acquire(30) == 0
    holder.kill()
    holder.communicate()
    assert mine.try_acquire(60) == 0, "and no more once it is gone"


def test_a_reservation_without_an_end_does_not_count_for_ever(tmp_path: Path) -> None:
    clock = Clock()
    memory = FileMemory(tmp_path / "host")
    budget = RequestBudget(100, slow_from=1.0, ceiling=1.0, clock=clock, memory=memory)
    with memory.change() as state:
        state.claim(os.getppid(), 80, clock.now)  # a process that lives on
    assert budget.try_acquire(50) > 0
    clock.now += 61
    assert budget.try_acquire(50) == 0


def test_four_budgets_on_one_file_keep_the_limit_over_many_minutes(tmp_path: Path) -> None:
    """An exchange whose minute turns 23 s after ours; answers come late and out of order."""
    clock = Clock()
    limit, used, minute = 600, 0, -1
    sent = {"sweep": 0, "backfill": 0}
    waits: list[float] = []
    four = budgets(tmp_path / "host", 4, limit, clock)
    on_the_way: list[tuple[float, RequestBudget, int, float]] = []
    next_sweep, asked_at = clock.now, clock.now
    started = clock.now
    while clock.now < started + 300:
        for due, budget, count, sent_at in [a for a in on_the_way if a[0] <= clock.now]:
            on_the_way.remove((due, budget, count, sent_at))
            budget.settle(2, count, sent_at)
        turn = int((clock.now - 23) // 60)
        if turn != minute:
            minute, used = turn, 0
        for number, budget in enumerate(four):
            priority = "sweep" if number == 0 else "backfill"
            if priority == "sweep" and clock.now < next_sweep:
                continue
            if budget.try_acquire(2, priority) > 0:
                continue
            used += 2
            sent[priority] += 1
            assert used <= limit, "the exchange never has to refuse"
            # The second budget's answers take longer than the others'.
            on_the_way.append((clock.now + (0.11 if number == 1 else 0.03), budget, used, clock.now))
            if number == 0:
                waits.append(clock.now - asked_at)
                next_sweep = asked_at = clock.now + 1.5
        clock.now += 0.02
    assert sent["sweep"] >= 190, "one every 1.5 s"
    assert statistics.quantiles(waits, n=20)[-1] < 0.1
    assert 5 * limit * 0.5 < 2 * (sent["sweep"] + sent["backfill"]) < 5 * limit


def test_a_scarce_backfill_waits_while_a_sweep_is_under_way(tmp_path: Path) -> None:
    clock = Clock()
    one, two = budgets(tmp_path / "host", 2, 1000, clock)
    assert one.try_acquire(2, "backfill") == 0
    one.settle(2, 500)
    assert one.try_acquire(2, "backfill") == 0, "over its first share, but nobody sweeps"
    one.settle(2, 502)
    clock.now += 2
    assert two.try_acquire(2, "sweep") == 0
    two.settle(2, 504)
    assert one.try_acquire(2, "backfill") == pytest.approx(0.5)
    clock.now += 0.4
    assert two.try_acquire(2, "sweep") == 0, "sweeps do not wait for each other, nor for the backfill"
    two.settle(2, 506)
    clock.now += 0.2
    assert one.try_acquire(2, "backfill") > 0
    clock.now += 0.4
    assert one.try_acquire(2, "backfill") == 0


def test_a_backfill_leaves_weight_for_sweeps(tmp_path: Path) -> None:
    clock = Clock()
    one, two = budgets(tmp_path / "host", 2, 1000, clock)
    two.try_acquire(2)
    two.settle(2, 730)
    clock.now += 2
    assert one.try_acquire(2, "backfill") == 0, "the probe"
    one.settle(2, 732)
    assert one.try_acquire(2, "backfill") > 1
    for used in range(734, 800, 2):
        assert two.try_acquire(2, "sweep") == 0
        two.settle(2, used)


def test_a_backfill_leaves_what_sweeps_took_in_the_minutes_before(tmp_path: Path) -> None:
    """Sweeps of 400 weight a minute, beside a backfill that takes all it gets as soon as the minute turns."""
    clock = Clock()
    backfill, sweep = budgets(tmp_path / "host", 2, 1000, clock)
    waits, taken = [], []
    for _ in range(4):
        used = waited = 0
        for _ in range(300):
            clock.now += 0.1
            if used < 950 and backfill.try_acquire(2, "backfill") == 0:
                used += 2
                backfill.settle(2, used, clock.now)
        taken.append(used)
        for _ in range(200):
            clock.now += 0.01
            if sweep.try_acquire(2, "sweep") > 0:
                waited += 1
                continue
            used += 2
            sweep.settle(2, used, clock.now)
        clock.now += 28.0
        waits.append(waited)
    assert waits[0] > 50, "the first sweep was not to be foreseen"
    assert waits[2:] == [0, 0], "later ones go at once, whole"
    assert taken[0] > 480
    assert all(300 < weight <= 400 for weight in taken[2:]), "and the backfill gets the rest"


def test_the_limit_and_the_count_are_those_of_all(tmp_path: Path) -> None:
    clock = Clock()
    one, two = budgets(tmp_path / "host", 2, 6000, clock)
    one.weight_per_minute = 1200
    assert two.weight_per_minute == 1200
    one.try_acquire(2)
    one.settle(2, 77)
    assert two.used == 77
    clock.now += 60
    assert two.try_acquire(2) == 0
    assert two.used == 0, "no minute of the exchange lasts longer"


def test_an_older_answer_does_not_pass_for_a_new_minute(tmp_path: Path) -> None:
    clock = Clock()
    [budget] = budgets(tmp_path / "host", 1, 1000, clock)
    for _ in range(3):
        budget.try_acquire(2)
    sent_at = clock.now
    clock.now += 0.1
    budget.settle(2, 606, sent_at)
    budget.settle(2, 604, sent_at)
    assert budget.used == 606
    clock.now += 0.1
    budget.settle(2, 2, clock.now)
    assert budget.used == 2, "this one was sent after that count had come"
