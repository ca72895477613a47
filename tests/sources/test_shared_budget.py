"""One budget per host for every process of a user: the limit is kept together, and a sweep comes first."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from market.client import ExchangeClient
from market.client_errors import RateLimitedError
from market.exchange.launch import RunningExchange
from market.rate_limit import RequestBudget, budget_of
from market.rate_state import FileMemory


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
