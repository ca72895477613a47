"""Servers on loopback for these tests: the built-in exchange, and one whose every bar a test decides."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from market.exchange.launch import RunningExchange, start_exchange
from market.intervals import interval_ms
from market.store import KlineStore

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LoopbackServer:
    """An aiohttp server in a thread of its own."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._loop.run_forever()

    async def _start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handler))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._ready.set()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class ScriptedExchange:
    """Serves `bars[symbol, interval][open_time] = row` and counts what is asked.

    Attributes
    ----------
    now
        Its clock, ms.
    cap
        Rows it gives at most, whatever limit is asked for.
    status
        By symbol, for exchangeInfo.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self.cap = 1000
        self.bars: dict[tuple[str, str], dict[int, Any]] = {}
        self.status: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self.queries: list[dict[str, str]] = []
        self.rows_sent = 0

    @staticmethod
    def bar(open_time: int, length: int, close: float = 1.5) -> list[Any]:
        return [open_time, "1", "2", "1", str(close), "9", open_time + length - 1, "13", 7, "4", "5", "0"]

    def fill(self, symbol: str, interval: str, start: int, end: int, *, without: Iterable[int] = ()) -> None:
        length = interval_ms(interval)
        rows = self.bars.setdefault((symbol, interval), {})
        rows.update({at: self.bar(at, length) for at in range(start, end, length)})
        for at in without:
            rows.pop(at, None)
        self.status.setdefault(symbol, "TRADING")

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        route = request.path.removeprefix("/api/v3/")
        self.asked[route] += 1
        if route == "time":
            return json_response({"serverTime": self.now})
        if route == "exchangeInfo":
            entries = [
                {"symbol": name, "baseAsset": name[:3], "quoteAsset": name[3:], "status": status}
                for name, status in self.status.items()
            ]
            return json_response({"symbols": entries, "rateLimits": []})
        if route == "ticker/24hr":
            return json_response([])
        return self._klines(dict(request.query))

    def _klines(self, query: dict[str, str]) -> web.Response:
        self.queries.append(query)
        if query["symbol"] not in self.status:
            return json_response({"code": -1121, "msg": "Invalid symbol."}, 400)
        rows = self.bars.get((query["symbol"], query["interval"]), {})
        start, end = int(query.get("startTime", 0)), int(query.get("endTime", self.now))
        limit = min(int(query["limit"]), self.cap)
        inside = [rows[at] for at in sorted(rows) if start <= at <= min(end, self.now)]
        chosen = inside[:limit] if "startTime" in query else inside[-limit:]
        self.rows_sent += len(chosen)
        return json_response(chosen)


def json_response(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], str]]:
    """Start a server with a handler; returns its URL."""
    servers: list[LoopbackServer] = []

    def start(handler: Handler) -> str:
        servers.append(LoopbackServer(handler))
        return servers[-1].url

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def store(home: Path) -> Iterator[KlineStore]:
    with KlineStore.open(home) as opened:
        yield opened


@pytest.fixture
def scripted() -> ScriptedExchange:
    """An exchange without bars, at a midnight."""
    return ScriptedExchange(1_700_006_400_000 + 86_400_000)


NOW = 1_735_700_000_000


@pytest.fixture(scope="module")
def exchange() -> Iterator[RunningExchange]:
    """The built-in exchange with five symbols; its clock stands still."""
    with start_exchange(symbols=5, seed=3, now=NOW, speed=0, weight_limit=0) as running:
        yield running


@pytest.fixture
def served(exchange: RunningExchange) -> Iterator[RunningExchange]:
    """The same, with counters at zero and without faults before and after."""
    exchange.reset_counters()
    exchange.clear_faults()
    yield exchange
    exchange.clear_faults()
