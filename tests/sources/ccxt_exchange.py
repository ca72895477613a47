"""What the tests of bars through ccxt share: how it is led to a loopback host, and a host with a habit of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
from aiohttp import web

from market.sources.ccxt_source import CcxtSource

T = TypeVar("T")
Prepare = Callable[[str], Callable[[Any], None]]

NOW = 1_735_700_000_000
MINUTE = 60_000
DAY = 86_400_000
START = NOW - NOW % MINUTE - 3_000 * MINUTE
OHLCV = ["open_time", "open", "high", "low", "close", "volume"]


def through_ccxt(
    prepare: Callable[[Any], None], work: Callable[[CcxtSource], Awaitable[T]], **options: Any
) -> T:
    async def run() -> T:
        async with CcxtSource("binance", prepare=prepare, **{"attempts": 3} | options) as source:
            return await work(source)

    return asyncio.run(run())


class WindowExchange:
    """Speaks Binance's protocol, but looks for bars only within `limit` intervals from the start time."""

    def __init__(self, now: int, bars: list[int]) -> None:
        self.now = now
        self.bars = {"1m": bars, "1d": sorted({at - at % DAY for at in bars} - {now - now % DAY})}
        self.asked = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        answers: dict[str, Any] = {
            "/api/v3/time": {"serverTime": self.now},
            "/api/v3/exchangeInfo": {"symbols": [SYMBOL], "rateLimits": [], "serverTime": self.now},
        }
        if request.path in answers:
            return answer(answers[request.path])
        self.asked += 1
        interval, start = request.query["interval"], int(request.query["startTime"])
        length = {"1m": MINUTE, "1d": DAY}[interval]
        end = start + int(request.query["limit"]) * length
        return answer([row_of(at, length) for at in self.bars[interval] if start <= at < end])


SYMBOL = {"symbol": "AAAUSDT", "baseAsset": "AAA", "quoteAsset": "USDT", "status": "TRADING", "filters": [],
          "isSpotTradingAllowed": True, "permissions": ["SPOT"]}  # fmt: skip


def row_of(at: int, length: int) -> list[Any]:
    return [at, "1", "2", "1", "1.5", "9", at + length - 1, "13", 7, "4", "5", "0"]


def answer(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
