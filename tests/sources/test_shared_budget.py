"""One budget per host for every process of a user: the limit is kept together, and a sweep comes first."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from market.client import ExchangeClient
from market.client_errors import RateLimitedError
from market.errors import MarketError
from market.exchange.launch import RunningExchange
from market.rate_limit import RequestBudget, budget_of
from market.rate_state import BudgetState, FileMemory, state_file, state_folder


class Clock:
    def __init__(self) -> None:
        self.now = 60.0 * 1000

    def __call__(self) -> float:
        return self.now


def budgets(path: Path, count: int, limit: int, clock: Clock) -> list[RequestBudget]:
    """As many budgets as processes would have: each with its own open file."""
    return [RequestBudget(limit, clock=clock, memory=FileMemory(path)) for _ in range(count)]


def served_totals(exchange: RunningExchange) -> tuple[int, int]:
    total = exchange.info()["served"]["total"]
    return total["requests"], total["refused"]


def host_of(exchange: RunningExchange) -> str:
    return exchange.url.removeprefix("http://")


def test_four_processes_keep_a_small_limit_and_the_sweep_stays_quick(
    served: RunningExchange, ask: Callable[..., Any]
) -> None:
    """Three backfills could use up the minute's weight in a moment; at every time the sweep gets its bars at once."""
    served.set_limits(weight_per_minute=300)
    budget_of(host_of(served)).weight_per_minute = 300
    backfills = [ask(served.url, "backfill", seconds=6) for _ in range(3)]
    sweep = ask(served.url, "sweep", seconds=4.5, pause_s=0.4, concurrency=1)
    latencies = sweep.latencies()
    done = [len(backfill.latencies()) for backfill in backfills]
    requests, refused = served_totals(served)
    assert refused == 0, "neither 429 nor 418"
    assert requests >= sum(done) + len(latencies) > 80, "and the weight was put to use"
    assert len(latencies) >= 7
    assert statistics.median(latencies) < 0.1
    assert max(latencies) < 1.5


def test_no_process_sends_within_retry_after_not_even_a_new_one(
    served: RunningExchange, ask: Callable[..., Any]
) -> None:
    askers = [ask(served.url, "backfill", seconds=30, pause_s=0.02, concurrency=2) for _ in range(3)]
    time.sleep(0.3)
    served.add_fault(path="/api/v3/klines", status=429, retry_after=4)
    while served_totals(served)[1] == 0:
        time.sleep(0.005)
    refused_at = time.monotonic()
    time.sleep(0.3)  # what was on its way when the refusal came
    before = served_totals(served)
    time.sleep(0.6)
    assert served_totals(served) == before
    for asker in askers:
        os.kill(asker.process.pid, signal.SIGKILL)
    late = ask(served.url, "sweep", seconds=30, pause_s=0.05, concurrency=1)
    while time.monotonic() < refused_at + 3.7:
        assert served_totals(served) == before
        time.sleep(0.1)
    while served_totals(served) == before:
        assert time.monotonic() < refused_at + 10
        time.sleep(0.05)
    assert late.process.poll() is None


def test_a_request_that_waits_for_its_connection_is_not_sent_within_retry_after(
    serve: Callable[..., str],
) -> None:
    """Another process is told Retry-After after this request got leave to go, and before it has a connection."""
    arrived: list[float] = []

    class Told(RequestBudget):
        paused_at = 0.0

        async def acquire(self, *arguments: Any) -> float:
            at = await super().acquire(*arguments)
            if not self.paused_at:
                self.pause(0.6)
                self.paused_at = time.monotonic()
            return at

    async def page(request: web.Request) -> web.Response:
        arrived.append(time.monotonic())
        return web.Response(text="[]", content_type="application/json")

    async def ask(budget: RequestBudget) -> int:
        async with ExchangeClient(serve(page), budget=budget) as client:
            await client.klines("BTCUSDT", "1m", 0, limit=1)
            return client.traffic.requests

    budget = Told()
    assert asyncio.run(ask(budget)) == 1, "what was not sent is not counted"
    assert len(arrived) == 1
    assert arrived[0] - budget.paused_at >= 0.59
    assert budget.used == 2


def test_a_long_ban_that_another_process_receives_ends_the_wait_of_this_one(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    mine, others = (RequestBudget(memory=FileMemory(tmp_path / "host")) for _ in range(2))

    async def nothing(request: web.Request) -> web.Response:
        raise AssertionError("nothing is sent")

    async def ask() -> None:
        async with ExchangeClient(serve(nothing), budget=mine, patience_s=5) as client:
            others.pause(2)
            waiting = asyncio.create_task(client.klines("BTCUSDT", "1m", 0))
            await asyncio.sleep(0.1)
            others.pause(7_200)
            await waiting

    started = time.monotonic()
    with pytest.raises(RateLimitedError, match="7200 s"):
        asyncio.run(ask())
    assert time.monotonic() - started < 2


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
