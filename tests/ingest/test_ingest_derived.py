"""Longer bars that are not asked for: derived from minutes, confirmed the day after, and what that saves."""

from __future__ import annotations

import logging
from collections.abc import Callable

import polars as pl
import pytest

from market.exchange.launch import start_exchange
from market.ingest import ingest_sync
from market.ingest_report import IngestReport
from market.intervals import INTERVAL_MS
from market.store import KlineStore

MINUTE, HOUR, DAY_MS = 60_000, 3_600_000, 86_400_000
MIDNIGHT = 1_735_689_600_000
INTERVALS = ["1m", "5m", "15m"]


def test_sweeps_over_midnight_cost_a_third_and_store_what_the_exchange_has(
    store: KlineStore, tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted by the exchange, against asking for the last 100 bars of each interval every minute."""
    symbols_count, sweeps = 8, 60
    with start_exchange(
        symbols=symbols_count, seed=11, now=MIDNIGHT - HOUR // 2, speed=0, weight_limit=0
    ) as exchange:
        symbols = exchange.info()["symbols"]
        start = {interval: MIDNIGHT - HOUR // 2 - 30 * INTERVAL_MS[interval] for interval in INTERVALS}
        ingest_sync(exchange.url, store, symbols, INTERVALS, start=start)
        exchange.reset_counters()
        derived = confirmed = 0
        for sweep in range(1, sweeps + 1):
            exchange.set_clock(MIDNIGHT - HOUR // 2 + sweep * MINUTE + 500)
            report = ingest_sync(exchange.url, store, symbols, INTERVALS, start=start)
            assert report.total("asked") == report.total("inserted") + report.total("derived")
            derived += report.total("derived")
            confirmed += report.total("confirmed")
        total = exchange.info()["served"]["total"]
        naive_rows = sweeps * symbols_count * len(INTERVALS) * 100
        naive_weight = sweeps * symbols_count * len(INTERVALS) * 2
        assert 1 - total["rows"] / naive_rows >= 0.9
        assert 1 - total["weight"] / naive_weight >= 0.6
        assert derived == symbols_count * (12 + 4)
        assert confirmed == symbols_count * (6 + 2), "those of the day that is over"
        assert set(store.derived()["day"]) == {MIDNIGHT}, "today's are still to be confirmed"
        with KlineStore.open(tmp_path / "asked") as asked:
            ingest_sync(exchange.url, asked, symbols, INTERVALS, start=start, derive=False)
            for interval in INTERVALS:
                assert store.scan(interval).collect().equals(asked.scan(interval).collect())
    assert "differ" not in caplog.text


@pytest.fixture
def exchange(scripted):
    """AAAUSDT with 1m and 5m bars that follow from each other, to the end of its second day."""
    scripted.now = MIDNIGHT + 12 * HOUR
    scripted.fill("AAAUSDT", "1m", MIDNIGHT, MIDNIGHT + 3 * DAY_MS)
    five = {at: five_minutes(at) for at in range(MIDNIGHT, MIDNIGHT + 3 * DAY_MS, 5 * MINUTE)}
    scripted.bars["AAAUSDT", "5m"] = five
    return scripted


def five_minutes(at: int, close: str = "1.5") -> list:
    return [at, "1", "2", "1", close, "45", at + 5 * MINUTE - 1, "65", 35, "20", "25", "0"]


@pytest.fixture
def update(exchange, serve: Callable[..., str], store: KlineStore):
    """Ingest 1m and 5m bars of AAAUSDT; the first time from noon, all of them asked for."""
    url = serve(exchange)

    def run(**options: bool) -> IngestReport:
        exchange.asked.clear()
        exchange.queries.clear()
        return ingest_sync(url, store, ["AAAUSDT"], ["1m", "5m"], start=MIDNIGHT + 11 * HOUR, **options)

    first = run()
    assert (first.total("inserted"), first.total("derived")) == (72, 0), "a first ingest asks"
    return run


def asked_for(exchange, interval: str) -> list[dict[str, str]]:
    return [query for query in exchange.queries if query["interval"] == interval]


def test_new_bars_are_derived_and_not_asked_for_unless_told_so(exchange, update, store) -> None:
    exchange.now += 10 * MINUTE
    report = update()
    assert asked_for(exchange, "5m") == []
    assert (report.total("inserted"), report.total("derived"), report.total("asked")) == (10, 2, 12)
    assert store.derived().select("symbol", "kline_interval", "start_time", "end_time").rows() == [
        ("AAAUSDT", "5m", MIDNIGHT + 12 * HOUR, exchange.now)
    ]
    exchange.now += 10 * MINUTE
    report = update(derive=False)
    assert len(asked_for(exchange, "5m")) == 1
    assert (report.total("inserted"), report.total("derived")) == (12, 0)


def test_a_minute_that_is_missing_makes_it_ask(exchange, update, store) -> None:
    exchange.bars["AAAUSDT", "1m"].pop(exchange.now + 2 * MINUTE)
    exchange.now += 30 * MINUTE
    report = update()
    assert len(asked_for(exchange, "5m")) == 1, "and that request brings the others as well"
    assert report.total("derived") == 0
    assert store.derived().is_empty()
    assert store.missing("AAAUSDT", "5m", MIDNIGHT + 11 * HOUR, exchange.now) == []


def test_what_lacks_many_hours_is_asked_for(exchange, update) -> None:
    exchange.now += 8 * HOUR
    report = update()
    assert len(asked_for(exchange, "5m")) == 1
    assert report.total("derived") == 0


def test_a_derived_bar_that_the_exchange_contradicts_gives_way_and_is_told(
    exchange, update, store, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = exchange.now
    exchange.bars["AAAUSDT", "5m"][wrong] = five_minutes(wrong, close="1.75")
    exchange.now += 20 * MINUTE
    update()
    stored = pl.col("open_time") == wrong
    assert store.scan("5m").filter(stored).collect()["close"].item() == 1.5
    exchange.now = MIDNIGHT + DAY_MS + MINUTE
    with caplog.at_level(logging.WARNING):
        report = update()
    assert report.total("confirmed") == 4
    assert report.total("updated") == 1
    assert report.revisions.select("kline_interval", "open_time", "close_before", "close").rows() == [
        ("5m", wrong, 1.5, 1.75)
    ]
    assert "differ from the exchange's" in caplog.text
    assert store.scan("5m").filter(stored).collect()["close"].item() == 1.75
    assert store.derived().is_empty()


def test_a_derived_bar_follows_at_once_where_a_minute_of_it_is_revised(exchange, update, store) -> None:
    late, revised = exchange.now + 2 * MINUTE, exchange.now + 3 * MINUTE
    exchange.now += 10 * MINUTE
    update()
    hole = exchange.bars["AAAUSDT", "1m"].pop(exchange.now + MINUTE)
    exchange.now += (
        10 * MINUTE
    )  # the minute that is missing stays to be asked for, and the request takes others along
    for at, closes in ((revised, "1.75"), (late, "1.5")):
        row = exchange.bars["AAAUSDT", "1m"][at]
        exchange.bars["AAAUSDT", "1m"][at] = [*row[:4], closes, *row[5:]]
    first = revised - revised % (5 * MINUTE)
    exchange.bars["AAAUSDT", "5m"][first] = five_minutes(first, close="1.75")
    store.remove("1m", ["AAAUSDT"], first, first + MINUTE)  # so that the page goes over the revised minute
    report = update()
    assert revised in set(report.revisions.filter(pl.col("kline_interval") == "1m")["open_time"])
    assert store.scan("5m").filter(pl.col("open_time") == first).collect()["close"].item() == 1.75
    assert ("5m", first) in report.revisions.select("kline_interval", "open_time").rows()
    assert hole[0] not in set(store.scan("1m").collect()["open_time"])
    assert not store.derived("5m").is_empty(), "the day is confirmed as ever"


def test_a_stretch_is_confirmed_by_one_request_once_the_day_is_over(exchange, update, store) -> None:
    while exchange.now < MIDNIGHT + DAY_MS:
        exchange.now += HOUR
        update()
        if exchange.now < MIDNIGHT + DAY_MS:
            assert asked_for(exchange, "5m") == []
    [confirmation] = asked_for(exchange, "5m")
    assert (int(confirmation["startTime"]), int(confirmation["limit"])) == (MIDNIGHT + 12 * HOUR, 144)
    exchange.now += HOUR
    update()
    assert asked_for(exchange, "5m") == []


def test_what_the_exchange_does_not_give_stays_to_be_confirmed(exchange, update, store, caplog) -> None:
    hidden = exchange.bars["AAAUSDT", "5m"].pop(exchange.now)
    exchange.now += 10 * MINUTE
    update()
    exchange.now = MIDNIGHT + DAY_MS + MINUTE
    for requests in (1, 0):
        report = update()
        assert (len(asked_for(exchange, "5m")) > 0) == bool(requests), "asked once a day"
    assert report.total("confirmed") == 0
    assert "1 bar stays unconfirmed" in caplog.text
    exchange.bars["AAAUSDT", "5m"][hidden[0]] = hidden
    exchange.now += DAY_MS
    update()
    assert hidden[0] not in set(store.derived()["start_time"])


def test_a_bar_that_an_exchange_gave_is_never_overwritten_by_a_derived_one(store: KlineStore) -> None:
    bar = {"symbol": "AAAUSDT", "open_time": MIDNIGHT, "open": 1.0, "high": 2.0, "low": 1.0, "close": 1.5,
           "volume": 9.0, "close_time": MIDNIGHT + 5 * MINUTE - 1, "quote_volume": 13.0, "trades": 7,
           "taker_buy_base": 4.0, "taker_buy_quote": 5.0}  # fmt: skip
    store.write("5m", pl.DataFrame([bar]))
    later = bar | {"open_time": MIDNIGHT + 5 * MINUTE, "close_time": MIDNIGHT + 10 * MINUTE - 1}
    assert store.write_derived("5m", pl.DataFrame([bar | {"close": 1.75}, later])) == 1
    assert store.scan("5m").collect()["close"].to_list() == [1.5, 1.5]
    assert store.derived()["start_time"].to_list() == [MIDNIGHT + 5 * MINUTE]
