"""Exchanges, and processes that ask them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from market.exchange.launch import RunningExchange, start_exchange
from market.sources import ccxt_transport
from market.store import KlineStore

NOW = 1_735_700_000_000

_ASKER = """
import asyncio, json, sys, time
from market.client import ExchangeClient

url, priority, seconds, pause_s, concurrency = json.loads(sys.argv[1])

async def main():
    took, until = [], time.monotonic() + seconds
    async def ask(client):
        while time.monotonic() < until:
            started = time.perf_counter()
            await client.klines("BTCUSDT", "1m", 1735600000000, limit=5)
            took.append(time.perf_counter() - started)
            await asyncio.sleep(pause_s)
    async with ExchangeClient(url, priority=priority, concurrency=concurrency) as client:
        asks = [asyncio.create_task(ask(client)) for _ in range(concurrency)]
        print("started", flush=True)
        _, late = await asyncio.wait(asks, timeout=seconds + 1)
        for task in late:
            task.cancel()
        for task in asks:
            if task.done() and not task.cancelled():
                task.result()
    print(json.dumps(took), flush=True)

asyncio.run(main())
"""


class Asker:
    """A process that asks an exchange for bars until its time is up."""

    def __init__(self, *options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ASKER, orjson.dumps(options).decode()],
            stdout=subprocess.PIPE,
            env=dict(os.environ),
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "started\n"

    def latencies(self) -> list[float]:
        """Wait for its end; how long each answered request took, the wait for its turn included, s."""
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return list(orjson.loads(out))


@pytest.fixture
def ask() -> Iterator[Callable[..., Asker]]:
    """Start a process that asks: ask(url, priority, seconds=..., pause_s=..., concurrency=...)."""
    askers: list[Asker] = []

    def start(
        url: str, priority: str, *, seconds: float, pause_s: float = 0.0, concurrency: int = 8
    ) -> Asker:
        askers.append(Asker(url, priority, seconds, pause_s, concurrency))
        return askers[-1]

    yield start
    for asker in askers:
        asker.process.kill()
        asker.process.communicate()


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again through ccxt after milliseconds."""
    monkeypatch.setattr(ccxt_transport, "_BACKOFF_BASE_S", 0.005)


@pytest.fixture(scope="module")
def exchange() -> Iterator[RunningExchange]:
    """The built-in exchange with three symbols; its clock stands still."""
    with start_exchange(symbols=3, seed=3, now=NOW, speed=0) as running:
        yield running


@pytest.fixture
def served(exchange: RunningExchange) -> Iterator[RunningExchange]:
    """The same, with counters at zero, the usual limits and no faults."""
    exchange.set_limits(weight_per_minute=6_000, raw_per_5m=61_000, strikes=5, ban_s=120)
    exchange.reset_counters()
    exchange.clear_faults()
    yield exchange
    exchange.clear_faults()


@pytest.fixture
def store(home: Path) -> Iterator[KlineStore]:
    with KlineStore.open(home) as opened:
        yield opened


def point_at(url: str) -> Callable[[Any], None]:
    """What leads ccxt's binance to a loopback host: its addresses, the spot market alone, no account routes."""

    def prepare(client: Any) -> None:
        client.options |= {
            "defaultType": "spot",
            "fetchMarkets": {"types": ["spot"]},
            "fetchCurrencies": False,
        }
        client.has["fetchCurrencies"] = False
        client.aiohttp_trust_env = False  # no proxy is of use on loopback
        client.rateLimit = 1
        client.throttler.config |= {"refillRate": 1.0}
        client.urls["api"] = {
            name: url + address[address.index("/api/v") :]
            if "/api/v" in str(address)
            else f"{url}/not-served"
            for name, address in client.urls["api"].items()
        }

    return prepare


@pytest.fixture
def pointed() -> Callable[[str], Callable[[Any], None]]:
    """`point_at`."""
    return point_at


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], str]]:
    """Start an HTTP server with a handler, in a thread of its own; returns its URL."""
    stops: list[Callable[[], None]] = []

    def start(handler: Handler) -> str:
        ready, loop, urls = threading.Event(), asyncio.new_event_loop(), []

        async def begin() -> web.ServerRunner:
            runner = web.ServerRunner(web.Server(handler))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
            ready.set()
            return runner

        def run() -> None:
            asyncio.set_event_loop(loop)
            runner = loop.run_until_complete(begin())
            loop.run_forever()
            loop.run_until_complete(runner.cleanup())
            loop.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(10)

        def stop() -> None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)

        stops.append(stop)
        return urls[0]

    yield start
    for stop in stops:
        stop()
