"""Asynchronous client of the Binance market-data protocol (spot, USD-M and coin-margined futures)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Final, TypeVar

import aiohttp
import orjson
import polars as pl

from market import wire
from market.client_errors import UnknownSymbolError
from market.errors import MarketError
from market.holding import HoldingConnector
from market.http_session import checked_base_url, open_session
from market.intervals import interval_ms
from market.rate_limit import FUTURES_WEIGHT_PER_MINUTE, Priority, RequestBudget, budget_of
from market.source import Kind
from market.symbol_names import suggest
from market.transport import Answer, Traffic, Transport
from market.wire import ExchangeInfo, KlinePage, SymbolInfo

T = TypeVar("T")

SPOT, USD_M, COIN_M = "/api/v3", "/fapi/v1", "/dapi/v1"
MAX_KLINES: Final = 1_000
"""Most bars that one request to the spot market returns; `ExchangeClient.max_klines` knows the other markets."""

_MAX_KLINES: Final = {SPOT: MAX_KLINES, USD_M: 1_500, COIN_M: 1_500}
_FUTURES_WEIGHTS: Final = ((99, 1), (499, 2), (1_000, 5), (1_500, 10))  # up to so many bars: weight


class ExchangeClient:
    """One connection pool to one exchange; use as ``async with ExchangeClient(url) as client``.

    Parameters
    ----------
    base_url : str
        Scheme, host and port, e.g. ``https://data-api.binance.vision``; a path in it is refused.
    api : str
        `SPOT`, `USD_M` or `COIN_M`: where the market's routes lie.
    concurrency : int
        Requests in flight at once.
    timeout_s : float
        For one attempt, from connecting to the last byte.
    attempts : int
        Tries per request on 5xx, 429, time-outs, resets and truncated answers, the first included. Between
        them it waits a random time up to 0.25 s * 2^attempt, at most 10 s ("full jitter").
    patience_s : float
        Longest Retry-After (429 and 418) to sit out; a longer one ends in an error at once.
    budget : RequestBudget, optional
        Default: the one that all processes of this user share for the host and market.
    priority : "sweep" or "backfill"
        Which requests wait first when weight gets scarce: a backfill's.

    Attributes
    ----------
    name, kind, max_klines
        As `market.source.KlineSource` has them.

    Raises
    ------
    MarketError
        If `base_url` is no base URL. Every method raises a `client_errors.ExchangeError` for what goes wrong.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api: str = SPOT,
        concurrency: int = 8,
        timeout_s: float = 15.0,
        attempts: int = 6,
        patience_s: float = 90.0,
        budget: RequestBudget | None = None,
        priority: Priority = "sweep",
    ) -> None:
        self.base_url, host = checked_base_url(base_url)
        self.name = self.base_url
        self.kind: Kind = "rest"
        self.concurrency = concurrency
        self.max_klines = _MAX_KLINES[api]
        self.priority = priority
        self._api = api
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._patience_s = patience_s
        self._budget = budget or _shared_budget(host, api)
        self._session: aiohttp.ClientSession | None = None
        self._transport: Transport | None = None
        self._info: ExchangeInfo | None = None
        self._info_lock = asyncio.Lock()

    async def __aenter__(self) -> ExchangeClient:
        self._session = open_session(
            self.base_url,
            concurrency=self.concurrency,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(5.0, self._timeout_s)),
            accept="application/json",
            connector=HoldingConnector(self._budget, limit=self.concurrency),
        )
        self._transport = Transport(
            self._session,
            self.base_url,
            budget=self._budget,
            concurrency=self.concurrency,
            attempts=self._attempts,
            patience_s=self._patience_s,
            priority=self.priority,
            timeout_s=self._timeout_s,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def traffic(self) -> Traffic:
        """Requests, weight, retries, bytes and waiting time so far."""
        return self._open().traffic

    @property
    def told_weight_limit(self) -> int:
        """Weight a minute that the exchange has said it allows; 0 if nobody has asked it yet."""
        return self._budget.told_limit

    def best_limit(self, bars: int) -> int:
        """Return the page size that brings `bars` bars for the least weight.

        On the spot market a request costs the same whatever it returns. On futures the weight grows faster than
        the page: 499 bars for 2 are the cheapest, and for fewer than 100 a request costs 1.
        """
        if self._api == SPOT:
            return self.max_klines
        return 99 if bars <= 99 else 499

    async def server_time(self) -> int:
        """Return the exchange's clock: ms since the epoch."""
        return (await self.get("/time", {}, 1, wire.parse_server_time)).value

    async def exchange_info(self, *, refresh: bool = False) -> list[SymbolInfo]:
        """Return all symbols; asked for once, then remembered until `refresh`."""
        async with self._info_lock:
            if self._info is None or refresh:
                weight = 20 if self._api == SPOT else 1
                self._info = (await self.get("/exchangeInfo", {}, weight, wire.parse_exchange_info)).value
                if self._info.weight_per_minute:
                    self._budget.weight_per_minute = self._info.weight_per_minute
        return self._info.symbols

    async def ticker_24h(self, symbols: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the rolling 24-hour figures of `symbols`, or of all: `wire.TICKER_SCHEMA`."""
        params: dict[str, str] = {}
        if symbols is not None and self._api == SPOT:
            params["symbols"] = orjson.dumps(list(symbols)).decode()
        weight = _ticker_weight(symbols) if self._api == SPOT else 40  # futures hosts know one symbol or all
        answer = await self.get("/ticker/24hr", params, weight, wire.parse_tickers)
        tickers = answer.value
        return tickers if symbols is None else tickers.filter(pl.col("symbol").is_in(list(symbols)))

    async def klines(
        self,
        symbol: str,
        interval: str,
        start: int | None = None,
        end: int | None = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Return at most `limit` bars with open_time in [start, end), oldest first, in `KLINE_SCHEMA`.

        Without `limit` as many as a request can return. Without `start` these are the most recent ones before
        `end`. The last bar may still be open. Rows that cannot be read are missing from the frame: use
        `klines_page` to see them.
        """
        return (await self.klines_page(symbol, interval, start, end, limit)).frame

    async def klines_page(
        self,
        symbol: str,
        interval: str,
        start: int | None = None,
        end: int | None = None,
        limit: int | None = None,
        *,
        unread: bool = False,
    ) -> KlinePage:
        """Return what `klines` does, with the rows that could not be read and what the answer cost.

        With `unread`, what looks regular at its ends is not read yet: see `wire.put_off_klines`.
        """
        limit = limit or self.max_klines
        params = {"symbol": symbol, "interval": interval, "limit": str(limit)}
        if start is not None:
            params["startTime"] = str(start)
        if end is not None:
            params["endTime"] = str(end - 1)  # the protocol's end is inclusive
        try:
            parse: Callable[[bytes], KlinePage] = wire.parse_klines
            if unread:
                parse = partial(wire.put_off_klines, most=limit, length=interval_ms(interval))
            answer = await self.get("/klines", params, _klines_weight(self._api, limit), parse)
        except UnknownSymbolError as error:
            raise await self._with_suggestion(error, symbol) from error
        return answer.value.at_cost(answer.requests, answer.weight)

    async def first_open_time(self, symbol: str, interval: str) -> int | None:
        """Return the open time (ms) of the oldest bar the exchange has, None if it has none: one request.

        0 where the row is there and its time cannot be read.
        """
        page = await self.klines_page(symbol, interval, start=0, limit=1)
        if page.malformed:
            return page.malformed[0].open_time or 0
        return page.frame["open_time"][0] if page.frame.height else None

    async def get(
        self, path: str, params: Mapping[str, str], weight: int, parse: Callable[[bytes], T]
    ) -> Answer[T]:
        """Ask for a path below the market's routes; see `Transport.get`."""
        return await self._open().get(f"{self._api}{path}", params, weight, parse)

    async def _with_suggestion(self, error: UnknownSymbolError, symbol: str) -> UnknownSymbolError:
        try:
            known = [info.symbol for info in await self.exchange_info()]
        except MarketError:
            return error
        return UnknownSymbolError(
            f"the exchange has no symbol {symbol!r}", where=error.where, remedy=suggest(symbol, known)
        )

    def _open(self) -> Transport:
        if self._transport is None:
            raise RuntimeError("use ExchangeClient within `async with`")
        return self._transport


def _shared_budget(host: str, api: str) -> RequestBudget:
    """Return the budget of a market; where one host serves several, each has its own."""
    if api == SPOT:
        return budget_of(host)
    return budget_of(f"{host}{api}", FUTURES_WEIGHT_PER_MINUTE)


def _klines_weight(api: str, limit: int) -> int:
    if api == SPOT:
        return 2
    return next((weight for most, weight in _FUTURES_WEIGHTS if limit <= most), _FUTURES_WEIGHTS[-1][1])


def _ticker_weight(symbols: Sequence[str] | None) -> int:
    if symbols is None or len(symbols) > 100:
        return 80
    return 2 if len(symbols) <= 20 else 40
