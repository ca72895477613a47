"""Bars through ccxt: those that the REST client gets, bit for bit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from market import client_errors as errors
from market.client import ExchangeClient
from market.errors import MarketError
from market.exchange.launch import RunningExchange
from market.ingest import ingest
from market.ingest_report import IngestReport
from market.source import KlineSource
from market.sources.ccxt_names import exchange_id, known_exchanges
from market.sources.ccxt_source import CcxtSource
from market.store import KlineStore
from market.universe import fetch_universe
from tests.sources.ccxt_exchange import MINUTE, NOW, OHLCV, START, Prepare, through_ccxt


def both(
    served: RunningExchange,
    home: Path,
    prepare: Callable[[Any], None],
    symbols: list[str],
    intervals: list[str],
) -> Iterator[tuple[IngestReport, KlineStore]]:
    async def by_rest(store: KlineStore) -> IngestReport:
        async with ExchangeClient(served.url) as client:
            plain = [name.replace("/", "") for name in symbols]
            return await ingest(client, store, plain, intervals, start=START)

    with KlineStore.open(home / "rest") as rest, KlineStore.open(home / "ccxt") as ccxt:
        yield asyncio.run(by_rest(rest)), rest
        work = lambda source: ingest(source, ccxt, symbols, intervals, start=START)  # noqa: E731
        yield through_ccxt(prepare, work), ccxt


def test_an_ingest_through_ccxt_stores_the_bars_of_the_rest_client_bit_for_bit(
    served: RunningExchange, home: Path, pointed: Prepare
) -> None:
    (home / "rest").mkdir()
    (home / "ccxt").mkdir()
    symbols, intervals = ["BTC/USDT", "ETH/USDT"], ["1m", "15m"]
    pairs = both(served, home, pointed(served.url), symbols, intervals)
    plain_report, plain_store = next(pairs)
    report, store = next(pairs)
    assert report.failures == plain_report.failures == []
    assert report.total("inserted") == plain_report.total("inserted") > 6_000
    for interval in intervals:
        theirs = plain_store.scan(interval).collect().sort("symbol", "open_time")
        ours = store.scan(interval).collect().sort("symbol", "open_time")
        assert ours["symbol"].str.replace("/", "").equals(theirs["symbol"])
        assert ours.select(OHLCV).equals(theirs.select(OHLCV))
        for name in ("quote_volume", "trades", "taker_buy_base", "taker_buy_quote"):
            assert ours[name].null_count() == ours.height, "what ccxt does not tell is not made up"
        gaps = ["start_time", "end_time", "cause"]
        assert store.gaps(interval).select(gaps).equals(plain_store.gaps(interval).select(gaps))
    pairs.close()


def test_a_second_ingest_asks_for_nothing_but_the_time_and_the_open_bar_is_never_stored(
    served: RunningExchange, store: KlineStore, pointed: Prepare
) -> None:
    def run() -> IngestReport:
        work = lambda source: ingest(source, store, ["BTC/USDT"], ["5m"], start=START)  # noqa: E731
        return through_ccxt(pointed(served.url), work)

    assert run().total("inserted") > 500
    newest = store.scan("5m").collect()["open_time"].max()
    assert newest == NOW - NOW % 300_000 - 300_000
    served.reset_counters()
    again = run()
    assert again.total("inserted") == 0
    assert "/api/v3/klines" not in served.info()["served"]["routes"]


def test_pages_leave_out_the_open_bar_by_the_exchange_s_clock(
    served: RunningExchange, pointed: Prepare
) -> None:
    """The exchange lives a year or two before this machine does."""

    async def pages(source: CcxtSource) -> tuple[int, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        newest = await source.klines_page("BTC/USDT", "1m", limit=3)
        forward = await source.klines_page("BTC/USDT", "1m", NOW - 5 * MINUTE)
        before = await source.klines_page("BTC/USDT", "1m", end=START, limit=2)
        return await source.server_time(), newest.frame, forward.frame, before.frame

    now, newest, forward, before = through_ccxt(pointed(served.url), pages)
    open_bar = NOW - NOW % MINUTE
    assert now == NOW
    assert newest["open_time"].to_list() == [open_bar - 3 * MINUTE, open_bar - 2 * MINUTE, open_bar - MINUTE]
    assert forward["open_time"].max() == open_bar - MINUTE
    assert before["open_time"].to_list() == [START - 2 * MINUTE, START - MINUTE]


def test_symbols_and_the_most_traded_come_from_the_exchange(
    served: RunningExchange, pointed: Prepare
) -> None:
    async def choose(source: CcxtSource) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        return (
            await fetch_universe(source, "top:2"),
            await fetch_universe(source, "ETH/USDT"),
            source.max_klines,
        )

    async def plainly() -> pl.DataFrame:
        async with ExchangeClient(served.url) as client:
            return await fetch_universe(client, "top:2")

    top, named, page = through_ccxt(pointed(served.url), choose)
    plain = asyncio.run(plainly())
    assert top["symbol"].str.replace("/", "").equals(plain["symbol"])
    assert top["quote_volume_24h"].to_list() == pytest.approx(plain["quote_volume_24h"].to_list())
    assert named["symbol"].to_list() == ["ETH/USDT"]
    assert page == 1_000


def test_what_ccxt_does_not_know_is_refused_with_near_matches(
    served: RunningExchange, pointed: Prepare
) -> None:
    async def ask(source: CcxtSource, symbol: str, interval: str) -> None:
        await source.klines_page(symbol, interval, START)

    prepare = pointed(served.url)
    with pytest.raises(errors.UnknownSymbolError, match="did you mean BTC/USDT"):
        through_ccxt(prepare, lambda source: ask(source, "BTCUSDT", "1m"))
    with pytest.raises(errors.UnknownIntervalError, match="1h") as failure:
        through_ccxt(prepare, lambda source: ask(source, "BTC/USDT", "7m"))
    assert failure.value.where == "ccxt:binance"
    with pytest.raises(errors.UnknownSymbolError, match="did you mean BTC/USDT"):
        through_ccxt(prepare, lambda source: fetch_universe(source, "BTC-USDT"))


def test_the_list_of_exchanges_is_ccxt_s_own() -> None:
    import ccxt

    assert set(known_exchanges()) == set(ccxt.exchanges)
    assert exchange_id("ccxt:kraken") == "kraken"
    with pytest.raises(MarketError, match="ccxt:kraken"):
        exchange_id("ccxt:Kracken")


def test_it_is_a_kline_source() -> None:
    source: KlineSource = CcxtSource("kraken")
    assert (source.name, source.kind) == ("ccxt:kraken", "ccxt")
