"""Exchanges answer in ways of their own: all their bars are found all the same, and damaged rows are set aside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from market.ingest import ingest
from market.ingest_plan import union
from market.ingest_report import IngestReport
from market.sources.ccxt_source import CcxtSource
from market.store import KlineStore
from tests.sources.ccxt_exchange import (
    DAY,
    MINUTE,
    NOW,
    OHLCV,
    Prepare,
    WindowExchange,
    answer,
    row_of,
    through_ccxt,
)


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
