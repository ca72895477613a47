"""Against the built-in exchange: everything once, exactly as served, and nothing asked for twice."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

import polars as pl
import pytest

from market import ingest_writer
from market.client import ExchangeClient
from market.errors import MarketError
from market.exchange.launch import RunningExchange, start_exchange
from market.ingest import ingest, ingest_sync
from market.intervals import INTERVAL_MS
from market.klines import KLINE_COLUMNS, STORED_COLUMNS
from market.store import KlineStore

NOW = 1_735_700_000_000
START = NOW - 4 * 86_400_000
INTERVALS = ["1m", "5m", "15m"]
LAST = {"1m": 1000, "5m": 400, "15m": 100}


def symbols_of(exchange: RunningExchange) -> list[str]:
    return list(exchange.info()["symbols"])


def served_bars(url: str, symbol: str, interval: str, start: int, now: int) -> list[tuple[float, ...]]:
    """Page through the server with nothing of ours in between."""
    bars: list[tuple[float, ...]] = []
    while True:
        query = f"symbol={symbol}&interval={interval}&startTime={start}&limit=1000"
        with urllib.request.urlopen(f"{url}/api/v3/klines?{query}") as answer:
            page = json.load(answer)
        bars += [tuple(float(value) for value in row[:11]) for row in page if row[6] < now]
        if len(page) < 1000:
            return bars
        start = page[-1][0] + 1


def stored_bars(store: KlineStore, symbol: str, interval: str) -> list[tuple[float, ...]]:
    frame = store.scan(interval, [symbol]).select(KLINE_COLUMNS).collect()
    return [tuple(float(value) for value in row) for row in frame.rows()]


def test_two_steps_equal_one_step_and_what_the_server_has(served: RunningExchange, tmp_path: Path) -> None:
    symbols = symbols_of(served)
    with KlineStore.open(tmp_path / "one") as one, KlineStore.open(tmp_path / "two") as two:
        whole = ingest_sync(served.url, one, symbols, INTERVALS, start=START)
        first = ingest_sync(served.url, two, symbols, INTERVALS, start=START, end=START + 100_000_000)
        rest = ingest_sync(served.url, two, symbols, INTERVALS, start=START)
        assert whole.total("inserted") == first.total("inserted") + rest.total("inserted")
        assert whole.failures == first.failures == rest.failures == []
        for interval in INTERVALS:
            frame = one.scan(interval).collect()
            assert frame.columns == list(STORED_COLUMNS)
            assert frame.equals(two.scan(interval).collect())
            ledger = one.gaps(interval).drop("checked_time")
            bars = (NOW // INTERVAL_MS[interval]) - -(-START // INTERVAL_MS[interval])
            absent = ((ledger["end_time"] - ledger["start_time"]) // INTERVAL_MS[interval]).sum()
            assert frame.height + absent == bars * len(symbols), "every bar is stored or ledgered"
        for symbol in symbols[:2]:
            for interval in INTERVALS:
                assert stored_bars(one, symbol, interval) == served_bars(
                    served.url, symbol, interval, START, NOW
                )


def test_a_second_run_asks_only_for_the_newest_bars(store: KlineStore) -> None:
    with start_exchange(symbols=4, seed=5, now=NOW, speed=0, weight_limit=0) as exchange:
        symbols = symbols_of(exchange)
        start = {interval: NOW - bars * INTERVAL_MS[interval] for interval, bars in LAST.items()}
        ingest_sync(exchange.url, store, symbols, INTERVALS, start=start)
        exchange.reset_counters()
        ingest_sync(exchange.url, store, symbols, INTERVALS, start=start)
        assert exchange.info()["served"]["total"]["requests"] == 1, "the time"
        before = {interval: store.scan(interval).collect() for interval in INTERVALS}
        exchange.set_clock(NOW + 120_000)
        exchange.reset_counters()
        report = ingest_sync(exchange.url, store, symbols, INTERVALS, start=start, derive=False)
        total = exchange.info()["served"]["total"]
        new = {i: (NOW + 120_000) // INTERVAL_MS[i] - NOW // INTERVAL_MS[i] for i in INTERVALS}
        assert total["rows"] == report.total("asked") == sum(new.values()) * len(symbols)
        assert total["requests"] == 1 + len(symbols) * sum(count > 0 for count in new.values())
        assert total["weight"] == report.weight == 1 + 2 * (total["requests"] - 1)
        for interval in INTERVALS:
            now_stored = store.scan(interval).collect()
            assert now_stored.height == before[interval].height + new[interval] * len(symbols)
            assert (now_stored["close_time"] < NOW + 120_000).all()
            assert (
                before[interval].join(now_stored, on=STORED_COLUMNS, how="anti", nulls_equal=True).is_empty()
            )


def test_no_more_requests_than_pages(served: RunningExchange, store: KlineStore) -> None:
    symbols = symbols_of(served)
    report = ingest_sync(served.url, store, symbols, ["5m"], start=NOW - 3_000 * 300_000)
    assert served.info()["served"]["routes"]["/api/v3/klines"]["requests"] == 3 * len(symbols)
    assert report.to_frame()["requests"].to_list() == [3] * len(symbols)


def test_the_report_adds_up_to_what_the_exchange_counted(served: RunningExchange, store: KlineStore) -> None:
    report = ingest_sync(served.url, store, symbols_of(served), ["1m"], start=NOW - 2_500 * 60_000)
    total = served.info()["served"]["total"]
    assert (report.requests, report.weight) == (total["requests"], total["weight"])
    frame = report.to_frame()
    assert frame["received"].sum() == total["rows"]
    assert (frame["asked"] == frame["inserted"] + frame["gaps"] + frame["pending"]).all()
    assert frame["failure"].null_count() == frame.height
    assert f"{frame['inserted'].sum():,} bars stored" in str(report)


def test_it_runs_within_a_running_loop_too(served: RunningExchange, home: Path) -> None:
    async def notebook() -> int:
        with KlineStore.open(home) as store:
            report = ingest_sync(served.url, store, symbols_of(served)[:1], ["15m"], start=NOW - 9_000_000)
            return report.total("inserted")

    assert asyncio.run(notebook()) == 9


def test_cancelled_in_the_middle_then_run_again(
    served: RunningExchange, store: KlineStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_writer, "_GATHER_S", 0.0)  # small batches, so that there is a middle
    symbols = symbols_of(served)
    served.add_fault(path="/api/v3/klines", latency_ms=400, count=None)

    async def cancelled_after(pages: int) -> None:
        async with ExchangeClient(served.url) as client:
            enough = asyncio.Event()
            seen = []

            def watch(progress: object) -> None:
                seen.append(progress)
                if len(seen) > pages:
                    enough.set()

            task = asyncio.create_task(ingest(client, store, symbols, ["1m"], start=START, progress=watch))
            await enough.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled_after(6))
    partial = store.scan("1m").collect()
    assert 5_000 <= partial.height < 28_000
    served.clear_faults()
    ingest_sync(served.url, store, symbols, ["1m"], start=START)
    with KlineStore.open(tmp_path / "whole") as whole:
        ingest_sync(served.url, whole, symbols, ["1m"], start=START)
        assert store.scan("1m").collect().equals(whole.scan("1m").collect())


def test_an_unknown_interval_is_refused_before_anything_is_asked(
    served: RunningExchange, store: KlineStore
) -> None:
    for interval in ("7m", "1M"):
        with pytest.raises(MarketError, match=interval):
            ingest_sync(served.url, store, ["BTCUSDT"], ["1m", interval], start=START)
    assert served.info()["served"]["total"]["requests"] == 0


def test_nothing_to_ask_for(served: RunningExchange, store: KlineStore) -> None:
    report = ingest_sync(served.url, store, [], ["1m"], start=START)
    assert report.to_frame().height == 0
    report = ingest_sync(served.url, store, ["BTCUSDT"], ["1m"], start=NOW + 60_000)
    assert report.to_frame().select(pl.col("asked")).item() == 0
