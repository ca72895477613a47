"""Bars of any exchange that ccxt can ask: open, high, low, close and volume, by unified symbols such as BTC/USDT."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final

import polars as pl

from market import client_errors as errors
from market.intervals import INTERVAL_MS, floor_time, interval_ms
from market.source import Kind
from market.sources import ccxt_errors
from market.sources.ccxt_bars import open_time, page_of
from market.sources.ccxt_transport import CcxtTransport
from market.symbol_names import suggest
from market.wire import TICKER_SCHEMA, KlinePage, SymbolInfo

_DAY_MS: Final = 86_400_000
_FIRST_DAY_MS: Final = 1_262_304_000_000  # 2010-01-01: no exchange that ccxt knows is older
_PAGE: Final = 500  # where ccxt does not know how many bars an exchange gives at once


class CcxtSource:
    """An exchange through ccxt; use as ``async with CcxtSource("kraken") as source``.

    ccxt is imported when the context is entered: it takes seconds. Its own rate limiter spaces the requests of this
    process; a Retry-After holds those of all processes of this user.

    Parameters
    ----------
    exchange_id : str
        The exchange's id in ccxt.
    market : "spot" or "usd_m"
        Which of its markets count as its symbols: spot, or perpetual contracts settled in the quote currency.
    concurrency : int
        Requests in flight at once.
    timeout_s : float
        For one attempt.
    attempts : int
        Tries per request on time-outs, broken connections, 5xx and "too many requests", the first included, with a
        random wait of up to 0.25 s * 2^attempt (10 s at most) between.
    patience_s : float
        Longest Retry-After to sit out; a longer one ends in an error at once.
    prepare : callable, optional
        Gets ccxt's exchange object before its first request, to change addresses or options.

    Raises
    ------
    ExchangeError
        By every method, for what goes wrong (`market.client_errors`).
    """

    kind: Kind = "ccxt"

    def __init__(
        self,
        exchange_id: str,
        *,
        market: str = "spot",
        concurrency: int = 4,
        timeout_s: float = 15.0,
        attempts: int = 6,
        patience_s: float = 90.0,
        prepare: Callable[[Any], None] | None = None,
    ) -> None:
        self._transport = CcxtTransport(
            exchange_id,
            concurrency=concurrency,
            timeout_s=timeout_s,
            attempts=attempts,
            patience_s=patience_s,
            prepare=prepare,
        )
        self.name = self.base_url = self._transport.name
        self.concurrency = concurrency
        self.traffic = self._transport.traffic
        self._market = market
        self._info: list[SymbolInfo] | None = None
        self._info_lock = asyncio.Lock()
        self._ahead_ms: int | None = None

    async def __aenter__(self) -> CcxtSource:
        self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    @property
    def told_weight_limit(self) -> int:
        """Unknown: ccxt keeps to the limits by itself."""
        return 0

    @property
    def max_klines(self) -> int:
        """Most bars that one request returns, as far as ccxt knows."""
        features = (self._exchange.features or {}).get("spot" if self._market == "spot" else "swap") or {}
        features = features.get("linear") or features
        return int((features.get("fetchOHLCV") or {}).get("limit") or _PAGE)

    def best_limit(self, bars: int) -> int:
        """Return the largest page: requests cost the same."""
        return self.max_klines

    async def server_time(self) -> int:
        """Return the exchange's clock, ms; this machine's for an exchange that does not tell the time."""
        local = time.time_ns() // 1_000_000
        now = local
        if self._exchange.has.get("fetchTime"):
            now = int(await self._transport.ask("fetch_time", self._exchange.fetch_time))
        self._ahead_ms = now - time.time_ns() // 1_000_000
        return now

    async def exchange_info(self, *, refresh: bool = False) -> list[SymbolInfo]:
        """Return the symbols of this market; one that ccxt knows to be inactive has the status BREAK."""
        async with self._info_lock:
            if self._info is None or refresh:
                markets = await self._transport.ask(
                    "load_markets", lambda: self._exchange.load_markets(refresh)
                )
                self._info = [
                    SymbolInfo(
                        str(entry["symbol"]),
                        str(entry["base"]),
                        str(entry["quote"]),
                        "BREAK" if entry.get("active") is False else "TRADING",
                    )
                    for entry in markets.values()
                    if self._is_of_market(entry)
                ]
        return self._info

    async def ticker_24h(self, symbols: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the 24-hour figures as far as the exchange tells them: `wire.TICKER_SCHEMA`, without trades."""
        if not self._exchange.has.get("fetchTickers"):
            return TICKER_SCHEMA.to_frame()
        wanted = None if symbols is None else list(symbols)
        tickers = await self._transport.ask("fetch_tickers", lambda: self._exchange.fetch_tickers(wanted))
        rows = [
            (
                name,
                entry.get("last"),
                entry.get("baseVolume"),
                entry.get("quoteVolume"),
                entry.get("timestamp"),
            )
            for name, entry in tickers.items()
            if wanted is None or name in wanted
        ]
        schema = {"symbol": pl.String(), "last_price": pl.Float64(), "volume": pl.Float64()}
        frame = pl.DataFrame(
            rows, schema={**schema, "quote_volume": pl.Float64(), "close_time": pl.Int64()}, orient="row"
        )
        return frame.select(
            "symbol",
            "last_price",
            "volume",
            "quote_volume",
            pl.lit(None, dtype=pl.Int64).alias("trades"),
            (pl.col("close_time") - _DAY_MS).alias("open_time"),
            "close_time",
        )

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
        """Return the oldest closed bars in [start, end), or without `start` the newest before `end`.

        Some exchanges look for bars only within as many intervals as bars were asked for, and answer nothing where
        those are empty. So an empty answer is followed up until there is a bar, or until the exchange's daily bars
        show that there is none before `end`.
        """
        await self._check(symbol, interval)
        before = self.traffic.requests
        length, now = interval_ms(interval), await self._now()
        closed = floor_time(now, interval)  # the bar that opens here is still open
        end = closed if end is None else min(end, closed)
        most = min(limit or self.max_klines, self.max_klines)
        if start is None:
            start = end - most * length
            rows = await self._bars(symbol, interval, start, most)
            rows = [row for row in rows if (open_time(row) or start) < end][-most:]
        else:
            rows = await self._first_bars(symbol, interval, start, end, most, floor_time(now, "1d"))
        return page_of(rows).at_cost(self.traffic.requests - before, 0)

    async def first_open_time(self, symbol: str, interval: str) -> int | None:
        """Return the open time (ms) of the oldest bar that the exchange gives, None if it gives none."""
        page = await self.klines_page(symbol, interval, start=_FIRST_DAY_MS)
        return page.frame["open_time"].min() if page.frame.height else None  # type: ignore[return-value]

    async def _first_bars(
        self, symbol: str, interval: str, start: int, end: int, most: int, today: int
    ) -> list[Any]:
        """Return the first rows in [start, end) that the exchange gives, at most `most`."""
        length, at = interval_ms(interval), start
        while at < end:
            rows = await self._bars(symbol, interval, at, most)
            inside = [row for row in rows if (open_time(row) or at) < end]
            if rows:
                return inside[:most]
            at += most * length
            if length < _DAY_MS and "1d" in self._exchange.timeframes:
                day = await self._next_day(symbol, floor_time(at, "1d"), end)
                at = max(at, today if day is None else day)  # the daily bar of today may not be there yet
        return []

    async def _next_day(self, symbol: str, day: int, end: int) -> int | None:
        """Return the open time of the first daily bar in [day, end)."""
        while day < end:
            rows = await self._bars(symbol, "1d", day, self.max_klines)
            days = [opened for row in rows if (opened := open_time(row)) is not None]
            if days:
                return min(days)
            day += self.max_klines * _DAY_MS
        return None

    async def _bars(self, symbol: str, interval: str, since: int, most: int) -> list[Any]:
        """Ask once; rows from before `since`, which some exchanges send along, are left out."""

        async def ask() -> list[Any]:
            rows = await self._exchange.fetch_ohlcv(symbol, interval, since, most)
            if not isinstance(rows, list) or any(row == [None] * len(row) for row in rows):
                raise ccxt_errors.Unreadable("the answer could not be read")
            return rows

        rows = await self._transport.ask(f"fetch_ohlcv {symbol} {interval} since={since} limit={most}", ask)
        return [row for row in rows if (open_time(row) or since) >= since]

    async def _check(self, symbol: str, interval: str) -> None:
        known = [info.symbol for info in await self.exchange_info()]
        if symbol not in known:
            raise errors.UnknownSymbolError(
                f"the exchange has no symbol {symbol!r}", where=self.name, remedy=suggest(symbol, known)
            )
        if interval not in self._exchange.timeframes or interval not in INTERVAL_MS:
            served = " ".join(name for name in INTERVAL_MS if name in self._exchange.timeframes)
            raise errors.UnknownIntervalError(
                f"the exchange has no interval {interval!r}", where=self.name, remedy=f"use one of {served}"
            )

    async def _now(self) -> int:
        if self._ahead_ms is None:
            return await self.server_time()
        return time.time_ns() // 1_000_000 + self._ahead_ms

    def _is_of_market(self, entry: dict[str, Any]) -> bool:
        if self._market == "spot":
            return bool(entry.get("spot"))
        return bool(entry.get("swap") and entry.get("linear"))

    @property
    def _exchange(self) -> Any:
        return self._transport.exchange
