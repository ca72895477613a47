"""Bars through ccxt: those that the REST client gets, bit for bit, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import orjson
import polars as pl
import pytest
from aiohttp import web

from market import client_errors as errors
from market.client import ExchangeClient
from market.errors import MarketError
from market.exchange.launch import RunningExchange
from market.ingest import ingest
from market.ingest_plan import union
from market.ingest_report import IngestReport
from market.source import KlineSource
from market.sources import ccxt_source
from market.sources.ccxt_names import exchange_id, known_exchanges
from market.sources.ccxt_source import CcxtSource
from market.store import KlineStore
from market.universe import fetch_universe

T = TypeVar("T")
Prepare = Callable[[str], Callable[[Any], None]]

NOW = 1_735_700_000_000
MINUTE = 60_000
DAY = 86_400_000
START = NOW - NOW % MINUTE - 3_000 * MINUTE
OHLCV = ["open_time", "open", "high", "low", "close", "volume"]


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt_source, "_BACKOFF_BASE_S", 0.005)


def through_ccxt(
    prepare: Callable[[Any], None], work: Callable[[CcxtSource], Awaitable[T]], **options: Any
) -> T:
    async def run() -> T:
        async with CcxtSource("binance", prepare=prepare, **{"attempts": 3} | options) as source:
            return await work(source)

    return asyncio.run(run())


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


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 451}, errors.RegionBlockedError),
        ({"status": 403}, errors.FirewallError),
        ({"status": 503}, errors.RetriesExhaustedError),
        ({"reset": True}, errors.RetriesExhaustedError),
        ({"status": 429, "retry_after": 0}, errors.RateLimitedError),
        ({"status": 400, "body": '{"code":-1127,"msg":"More than allowed"}'}, errors.RequestRefusedError),
    ],
)
def test_faults_become_errors_that_say_what_to_do(
    served: RunningExchange, pointed: Prepare, fault: dict[str, Any], kind: type[errors.ExchangeError]
) -> None:
    async def work(source: CcxtSource) -> int:
        await source.exchange_info()
        await source.server_time()
        served.add_fault(path="/api/v3/klines", count=None, **fault)
        sent = source.traffic.requests
        with pytest.raises(kind) as failure:
            await source.klines_page("BTC/USDT", "1m", START, limit=5)
        assert "ccxt:binance" in failure.value.where
        assert failure.value.remedy
        return source.traffic.requests - sent

    asked = through_ccxt(pointed(served.url), work)
    assert asked == (3 if kind in (errors.RetriesExhaustedError, errors.RateLimitedError) else 1)


def test_a_ban_ends_it_at_once_and_is_kept_for_the_next_process(
    served: RunningExchange, pointed: Prepare
) -> None:
    async def banned(source: CcxtSource) -> None:
        await source.klines_page("BTC/USDT", "1m", START, limit=5)

    served.add_fault(path="/api/v3/klines", status=418, retry_after=7200)
    for _ in range(2):  # the second as a new source, as a restarted process would have
        with pytest.raises(errors.RateLimitedError, match="7200 s"):
            through_ccxt(pointed(served.url), banned)
    routes = served.info()["served"]["routes"]
    assert routes["/api/v3/klines"]["requests"] == routes["/api/v3/exchangeInfo"]["requests"] == 1


def test_a_passing_fault_is_tried_again_and_nothing_is_sent_within_retry_after(
    served: RunningExchange, pointed: Prepare
) -> None:
    async def work(source: CcxtSource) -> tuple[int, float]:
        await source.server_time()
        await source.exchange_info()
        served.add_fault(path="/api/v3/klines", status=500)
        served.add_fault(path="/api/v3/klines", status=429, retry_after=1)
        started = time.monotonic()
        page = await source.klines_page("BTC/USDT", "1m", START, limit=5)
        return page.frame.height, time.monotonic() - started

    rows, took = through_ccxt(pointed(served.url), work)
    assert rows == 5
    assert took >= 1.0


def test_an_unreachable_exchange(pointed: Prepare) -> None:
    with pytest.raises(errors.UnreachableError, match="3 attempts"):
        through_ccxt(pointed("http://127.0.0.1:1"), lambda source: source.server_time())


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


def test_an_exchange_that_looks_within_a_window_only_still_gives_all_its_bars(
    serve: Callable[..., str], pointed: Prepare, store: KlineStore
) -> None:
    """Listed years after the first bar asked for, silent for ten days, and again today, before its daily bar is out."""
    now = 1_735_700_000_000
    listed = now - now % DAY - 40 * DAY
    bars = [listed + 90 * MINUTE + at * MINUTE for at in range(3_000)]
    bars += [listed + 15 * DAY + 777 * MINUTE + at * MINUTE for at in range(50)]
    bars += [now - now % MINUTE - 20 * MINUTE + at * MINUTE for at in range(20)]
    exchange = WindowExchange(now, bars)
    url = serve(exchange)
    start = now - now % MINUTE - 1_200 * DAY

    async def work(source: CcxtSource) -> IngestReport:
        assert await source.first_open_time("AAA/USDT", "1m") == bars[0]
        return await ingest(source, store, ["AAA/USDT"], ["1m"], start=start)

    report = through_ccxt(pointed(url), work)
    assert report.failures == []
    assert store.scan("1m").collect()["open_time"].sort().to_list() == bars
    ledger = store.gaps("1m").sort("start_time").select("start_time", "end_time", "cause").rows()
    assert ledger[0] == (start, bars[0], "before_listing")
    outages = union((a, b) for a, b, cause in ledger if cause == "outage")
    assert outages == ((bars[2_999] + MINUTE, bars[3_000]), (bars[3_049] + MINUTE, bars[3_050]))
    assert exchange.asked < 60, "not a window at a time"


def test_an_exchange_that_gives_its_newest_bars_alone(
    serve: Callable[..., str], pointed: Prepare, store: KlineStore
) -> None:
    """As Kraken does: whatever is asked for, its newest bars come; what is older cannot be had from it."""
    newest = [NOW - NOW % MINUTE - 72 * MINUTE + at * MINUTE for at in range(73)]

    class NewestOnly(WindowExchange):
        async def __call__(self, request: web.Request) -> web.StreamResponse:
            if request.path.endswith("klines"):
                self.asked += 1
                length = {"1m": MINUTE, "1d": DAY}[request.query["interval"]]
                return answer([row_of(at, length) for at in self.bars[request.query["interval"]]])
            return await super().__call__(request)

    exchange = NewestOnly(NOW, newest)
    start = newest[0] - 20_000 * MINUTE
    work = lambda source: ingest(source, store, ["AAA/USDT"], ["1m"], start=start)  # noqa: E731
    report = through_ccxt(pointed(serve(exchange)), work)
    assert report.failures == []
    assert store.scan("1m").collect()["open_time"].sort().to_list() == newest[:72], "all but the open one"
    ledger = store.gaps("1m").select("start_time", "end_time", "cause").rows()
    assert {cause for _, _, cause in ledger} == {"before_listing"}
    assert union((a, b) for a, b, _ in ledger) == ((start, newest[0]),)
    assert exchange.asked < 12


def test_recorded_answers_of_a_real_exchange(
    serve: Callable[..., str], pointed: Prepare, store: KlineStore, shared_data: Path
) -> None:
    """Two recorded pages of hourly bars with three missing between them, and the recorded exchangeInfo."""
    routes = json.loads((shared_data / "wire" / "binance_http_public.json").read_bytes())["routes"]
    pages = [
        entry["data"]
        for entry in routes["/api/v3/klines"]["GET"]
        if "interval=1h" in entry["queryString"] and "symbol=BTCUSDT" in entry["queryString"]
        and isinstance(entry["data"], list)
    ]  # fmt: skip
    first, last = 1_588_280_400_000, 1_593_572_400_000
    rows = {row[0]: row for page in pages for row in page if first <= row[0] <= last}
    assert len(rows) == 1_468

    async def recorded(request: web.Request) -> web.StreamResponse:
        if request.path == "/api/v3/time":
            return answer({"serverTime": last + 3_600_000})
        if request.path == "/api/v3/exchangeInfo":
            return answer(routes[request.path]["GET"][0]["data"])
        if request.query.get("interval") != "1h":
            return answer([])
        start, limit = int(request.query["startTime"]), int(request.query["limit"])
        return answer([rows[at] for at in sorted(rows) if at >= start][:limit])

    work = lambda source: ingest(source, store, ["BTC/USDT"], ["1h"], start=first)  # noqa: E731
    report = through_ccxt(pointed(serve(recorded)), work)
    assert report.failures == []
    stored = store.scan("1h").collect().sort("open_time")
    expected = [[at, *map(float, rows[at][1:6])] for at in sorted(rows)]
    assert [list(row) for row in stored.select(OHLCV).rows()] == expected
    assert stored["symbol"].unique().to_list() == ["BTC/USDT"]
    gaps = store.gaps("1h").select("start_time", "end_time", "cause").rows()
    assert gaps == [(1_593_320_400_000 - 3 * 3_600_000, 1_593_320_400_000, "outage")]


def test_rows_that_cannot_be_read_are_set_aside(
    serve: Callable[..., str], pointed: Prepare, store: KlineStore
) -> None:
    bars = [NOW - NOW % MINUTE - 5 * MINUTE + at * MINUTE for at in range(5)]

    class Damaged(WindowExchange):
        async def __call__(self, request: web.Request) -> web.StreamResponse:
            if request.path.endswith("klines") and request.query["interval"] == "1m":
                rows = [row_of(at, MINUTE) for at in bars if at >= int(request.query["startTime"])]
                for row in rows:
                    row[4] = {bars[1]: "?", bars[3]: "7"}.get(row[0], row[4])
                return answer(rows)
            return await super().__call__(request)

    work = lambda source: ingest(source, store, ["AAA/USDT"], ["1m"], start=bars[0])  # noqa: E731
    report = through_ccxt(pointed(serve(Damaged(NOW, bars))), work)
    assert report.total("refused") == 2
    aside = store.quarantined("1m").sort("open_time")
    assert aside["open_time"].to_list() == [bars[1], bars[3]]
    assert aside["reason"].to_list() == ["close is not a finite number", "high is below open, close or low"]
    assert store.scan("1m").collect()["open_time"].sort().to_list() == [bars[0], bars[2], bars[4]]


def test_it_is_a_kline_source() -> None:
    source: KlineSource = CcxtSource("kraken")
    assert (source.name, source.kind) == ("ccxt:kraken", "ccxt")
