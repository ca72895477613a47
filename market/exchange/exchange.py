"""The running exchange: market, clock, limits and faults, and what each request does to them."""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from market.exchange import answers, futures, protocol
from market.exchange.clock import ExchangeClock
from market.exchange.faults import FaultPlan
from market.exchange.limits import LimitPolicy, WeightLimiter
from market.exchange.protocol import ApiError
from market.exchange.simulate import SimulatedMarket
from market.exchange.source import KlinePage, KlineQuery, Market
from market.intervals import INTERVAL_MS

PAGES_MB: Final = 64
"""Memory for rendered pages, MiB."""

_MONTH_MS: Final = 31 * 86_400_000
_IDLE_S: Final = 0.02

Query = Mapping[str, str]


@dataclass
class RouteCounter:
    """What one route has served since the last reset."""

    requests: int = 0
    refused: int = 0
    rows: int = 0
    weight: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Answer:
    """A body for status 200 and the rows in it."""

    body: bytes
    rows: int = 0


@dataclass
class Exchange:
    """Everything that a request may touch.

    Parameters
    ----------
    market
        What is served.
    clock
        The time that the exchange lives in.
    limiter, futures_limiter
        Weight accounting of the spot and of the futures routes, on real time.
    pages_mb
        Memory for pages that were rendered once and will not change, MiB.
    """

    market: Market
    clock: ExchangeClock
    limiter: WeightLimiter = field(default_factory=lambda: WeightLimiter(LimitPolicy()))
    futures_limiter: WeightLimiter = field(default_factory=lambda: WeightLimiter(futures.limit_policy()))
    faults: FaultPlan = field(default_factory=FaultPlan)
    counters: dict[str, RouteCounter] = field(default_factory=dict)
    last_request: float = 0.0
    pages_mb: int = PAGES_MB

    def __post_init__(self) -> None:
        self._pages: OrderedDict[KlineQuery, KlinePage] = OrderedDict()
        self._page_bytes = 0

    def limiter_of(self, path: str) -> WeightLimiter:
        """Return the accounting that a route belongs to."""
        return self.futures_limiter if path.startswith(futures.PREFIX) else self.limiter

    def counter(self, path: str) -> RouteCounter:
        """Return the counter of a route."""
        found = self.counters.get(path)
        if found is None:
            found = self.counters[path] = RouteCounter()
        return found

    # Routes: each takes the query and whether times are wanted in microseconds.

    async def ping(self, query: Query, microseconds: bool) -> Answer:
        """Answer GET /api/v3/ping."""
        return Answer(b"{}")

    async def server_time(self, query: Query, microseconds: bool) -> Answer:
        """Answer GET /api/v3/time."""
        now = self.clock.now()
        return Answer(orjson.dumps({"serverTime": now * 1000 if microseconds else now}))

    async def exchange_info(self, query: Query, microseconds: bool) -> Answer:
        """Answer GET /api/v3/exchangeInfo: all symbols, or those asked for."""
        now = self.clock.now()
        wanted = protocol.symbol_list(query, self.market, now)
        known = ("symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus")
        protocol.refuse_unread(query, known)
        instruments = self.market.instruments(now)
        if wanted is not None:
            by_name = {instrument.symbol: instrument for instrument in instruments}
            instruments = [by_name[name] for name in wanted]
        info = answers.exchange_info(instruments, now, self.limiter.policy)
        return Answer(orjson.dumps(info), len(instruments))

    async def ticker(self, query: Query, microseconds: bool) -> Answer:
        """Answer GET /api/v3/ticker/24hr: one object for ``symbol``, else an array."""
        now = self.clock.now()
        wanted = protocol.symbol_list(query, self.market, now)
        kind = query.get("type", "FULL")
        if kind not in ("FULL", "MINI"):
            raise ApiError(-1130, "Data sent for parameter 'type' is not valid.")
        protocol.refuse_unread(query, ("symbol", "symbols", "type", "symbolStatus"))
        names = wanted or [instrument.symbol for instrument in self.market.instruments(now)]
        days = []
        for name in names:
            days.append(answers.ticker(self.market.day_statistics(name, now), kind == "MINI"))
            await asyncio.sleep(0)  # a first look at many symbols takes a while: let others in
        return Answer(orjson.dumps(days[0] if "symbol" in query else days), len(days))

    async def klines(self, query: Query, microseconds: bool) -> Answer:
        """Answer GET /api/v3/klines."""
        now = self.clock.now()
        return self._page(protocol.kline_query(query, self.market, now, microseconds), now)

    async def futures_time(self, query: Query, microseconds: bool) -> Answer:
        """Answer GET /fapi/v1/time, always in milliseconds."""
        return await self.server_time(query, False)

    async def futures_info(self, query: Query, microseconds: bool) -> Answer:
        """Answer GET /fapi/v1/exchangeInfo: all symbols."""
        now = self.clock.now()
        protocol.refuse_unread(query, ())
        instruments = self.market.instruments(now)
        info = futures.exchange_info(instruments, now, self.futures_limiter.policy)
        return Answer(orjson.dumps(info), len(instruments))

    async def futures_ticker(self, query: Query, microseconds: bool) -> Answer:
        """Answer GET /fapi/v1/ticker/24hr: one object for ``symbol``, else an array of all."""
        now = self.clock.now()
        protocol.refuse_unread(query, ("symbol",))
        wanted = protocol.symbol_list(query, self.market, now)
        names = wanted or [instrument.symbol for instrument in self.market.instruments(now)]
        days = []
        for name in names:
            days.append(futures.ticker(self.market.day_statistics(name, now)))
            await asyncio.sleep(0)
        return Answer(orjson.dumps(days[0] if wanted else days), len(days))

    async def futures_klines(self, query: Query, microseconds: bool) -> Answer:
        """Answer GET /fapi/v1/klines; times are always in milliseconds."""
        now = self.clock.now()
        return self._page(protocol.kline_query(query, self.market, now, False, futures.KLINES), now)

    def _page(self, wish: KlineQuery, now: int) -> Answer:
        page = self._pages.get(wish)
        if page is None:
            page = self.market.klines(wish, now)
            if page.settled and _final(wish, page, now):
                self._keep(wish, page)
        return Answer(page.body, page.rows)

    def _keep(self, wish: KlineQuery, page: KlinePage) -> None:
        self._pages[wish] = page
        self._page_bytes += len(page.body)
        while self._page_bytes > self.pages_mb << 20:
            self._page_bytes -= len(self._pages.popitem(last=False)[1].body)

    async def warm_up(self) -> None:
        """Sum the histories of a simulated market while nobody asks for anything."""
        if not isinstance(self.market, SimulatedMarket):
            return
        for symbol in self.market.specs:
            while not self.market.warm(symbol, self.clock.now()):
                await asyncio.sleep(0)
                while time.monotonic() - self.last_request < _IDLE_S:
                    await asyncio.sleep(_IDLE_S)


def _final(wish: KlineQuery, page: KlinePage, now_ms: int) -> bool:
    """Tell whether the same query will have the same answer for ever (the clock only goes forward)."""
    if wish.start_time is not None and page.rows == wish.limit:
        return True
    length = INTERVAL_MS.get(wish.interval, _MONTH_MS)
    return wish.end_time is not None and wish.end_time + length <= now_ms


Handler = Callable[[Query, bool], Awaitable[Answer]]
Weigher = Callable[[Query], int]


def api_routes(exchange: Exchange) -> dict[str, tuple[Handler, Weigher]]:
    """Return path, handler and weight of every route of the protocol."""

    def fixed(weight: int) -> Weigher:
        return lambda query: weight

    return {
        "/api/v3/klines": (exchange.klines, fixed(protocol.KLINES_WEIGHT)),
        "/api/v3/time": (exchange.server_time, fixed(protocol.TIME_WEIGHT)),
        "/api/v3/ping": (exchange.ping, fixed(protocol.TIME_WEIGHT)),
        "/api/v3/exchangeInfo": (exchange.exchange_info, fixed(protocol.EXCHANGE_INFO_WEIGHT)),
        "/api/v3/ticker/24hr": (exchange.ticker, _weigh_ticker),
        "/fapi/v1/klines": (exchange.futures_klines, futures.klines_weight),
        "/fapi/v1/time": (exchange.futures_time, fixed(1)),
        "/fapi/v1/ping": (exchange.ping, fixed(1)),
        "/fapi/v1/exchangeInfo": (exchange.futures_info, fixed(1)),
        "/fapi/v1/ticker/24hr": (exchange.futures_ticker, futures.ticker_weight),
    }


def _weigh_ticker(query: Query) -> int:
    if query.get("symbol"):
        return protocol.ticker_weight(1)
    if query.get("symbols"):
        return protocol.ticker_weight(query["symbols"].count(",") + 1)
    return protocol.ticker_weight(None)


def describe(exchange: Exchange, version: str) -> dict[str, Any]:
    """Return the answer of GET /klinecast/v1/info."""
    now = exchange.clock.now()
    names = [instrument.symbol for instrument in exchange.market.instruments(now)]
    counters = {path: vars(counter) for path, counter in exchange.counters.items()}
    total = RouteCounter()
    for counter in exchange.counters.values():
        for name, value in vars(counter).items():
            setattr(total, name, getattr(total, name) + value)
    return {
        "kind": exchange.market.kind,
        "version": version,
        "pid": os.getpid(),
        "now_ms": now,
        "speed": exchange.clock.speed,
        "symbols": names,
        "limits": vars(exchange.limiter.policy),
        "futures_limits": vars(exchange.futures_limiter.policy),
        "served": {"total": vars(total), "routes": counters},
        **exchange.market.describe(),
    }
