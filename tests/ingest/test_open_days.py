"""A backfill's batches cut days; their bars wait for the rest, and none is stored twice, lost or too early done."""

from __future__ import annotations

import asyncio
import threading
import time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import ingest_writer, kline_scan
from market.client import ExchangeClient
from market.ingest import ingest_sync
from market.intervals import DAY_MS
from market.open_days import OpenDays, Piece
from market.progress import Progress

HOUR, MINUTE = 3_600_000, 60_000


def piece(symbol: str, start: int, until: int) -> Piece[str]:
    """Hourly bars, but for every tenth hour."""
    hours = [at for at in range(start, until) if at % 10]
    bars = pl.DataFrame({"open_time": pl.Series([at * HOUR for at in hours], dtype=pl.Int64)})
    return Piece(
        symbol, start * HOUR, until * HOUR, f"{symbol} {start}", bars.with_columns(symbol=pl.lit(symbol))
    )


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 60), st.integers(0, 5)), max_size=12),
    st.integers(1, 4),
)
def test_every_bar_comes_once_and_a_page_is_done_with_its_last_bar(
    steps: list[tuple[str, int, int]], together: int
) -> None:
    ends: dict[str, int] = {}
    pieces = []
    for symbol, hours, hole in steps:
        start = ends.get(symbol, 5) + (hole if hole > 3 else 0)
        ends[symbol] = start + hours
        pieces.append(piece(symbol, start, ends[symbol]))
    days: OpenDays[str] = OpenDays()
    stored: set[tuple[str, int]] = set()
    for at in range(0, len(pieces) + together, together):
        batch = pieces[at : at + together]
        hold = at + together < len(pieces)
        came = [bars for bars in days.join(batch, hold=hold) if bars.height]
        rows = [row for bars in came for row in bars.select("symbol", "open_time").rows()]
        assert rows == sorted(rows)
        assert not stored & set(rows)
        stored |= set(rows)
        for done in pieces[: at + together]:
            missing = {(done.symbol, time) for time in done.bars["open_time"]} - stored
            assert missing == set() or done.page in days.pages
            assert (
                not missing or min(time for _, time in missing) >= done.until - done.until % DAY_MS - DAY_MS
            )
    assert days.pages == []
    assert stored == {(one.symbol, time) for one in pieces for time in one.bars["open_time"]}


def test_a_stretch_that_does_not_go_on_waits_no_longer_than_one_batch() -> None:
    days: OpenDays[str] = OpenDays()
    [first] = days.join([piece("A", 0, 30)], hold=True)
    assert first["open_time"].max() == 23 * HOUR
    assert days.pages == ["A 0"]
    [rest] = days.join([piece("B", 0, 24)], hold=True)[:1]
    assert rest["open_time"].to_list() == [at * HOUR for at in range(24, 30)]
    assert days.pages == []


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    kline_scan.load()
    monkeypatch.setattr(ingest_writer, "_PAGES_TOGETHER", 24)
    monkeypatch.setattr(ingest_writer, "_MANY_BARS", 1)


@pytest.mark.usefixtures("small_batches")
def test_only_days_that_stay_open_become_hot(scripted, serve, store, home) -> None:
    """Five days and a half; the exchange was down for two hours, in the middle of a page."""
    start = scripted.now - 5 * DAY_MS - DAY_MS // 2
    hole = range(start + 3 * DAY_MS, start + 3 * DAY_MS + 2 * HOUR, MINUTE)
    symbols = [f"{name}USDT" for name in "ABCDEFGH"]
    for symbol in symbols:
        scripted.fill(symbol, "1m", start, scripted.now, without=hole)
    told: list[Progress] = []
    report = ingest_sync(serve(scripted), store, symbols, ["1m"], start=start, progress=told.append)
    want = sorted(scripted.bars["AUSDT", "1m"])
    assert store.scan("1m").select("symbol", "open_time").collect().rows() == [
        (symbol, at) for symbol in symbols for at in want
    ]
    assert (report.total("inserted"), report.total("gaps")) == (8 * len(want), 8 * len(hole))
    assert store.gaps("1m")["cause"].to_list() == ["outage"] * 8
    filed = pl.scan_parquet(sorted((home / "klines").rglob("*.parquet"))).collect()
    assert filed.height == 8 * (len(want) - DAY_MS // MINUTE // 2), "all but the half day at the start"
    assert [state.done for state in told] == sorted(state.done for state in told)
    assert told[-1].done == told[-1].expected


def damaging(scripted, monkeypatch, damage, times: int = 1) -> list[str]:
    """Let the first `times` answers after the fifth day be damaged; returns which were, as they come."""
    whole, damaged, after = scripted._klines, [], scripted.now - 10 * DAY_MS

    def klines(query):
        answer = whole(query)
        if len(damaged) < times and int(query["startTime"]) > after and len(answer.body) > 10_000:
            damaged.append(query["startTime"])
            answer.body = damage(answer.body)
        return answer

    monkeypatch.setattr(scripted, "_klines", klines)
    return damaged


def broken(body: bytes) -> bytes:
    return body.replace(b",7,", b",,")


@pytest.mark.usefixtures("small_batches")
def test_a_page_that_was_damaged_on_its_way_is_asked_for_once_more(
    scripted, serve, store, monkeypatch
) -> None:
    start = scripted.now - 15 * DAY_MS
    scripted.fill("AAAUSDT", "1m", start, scripted.now)
    damaged = damaging(scripted, monkeypatch, broken)
    report = ingest_sync(serve(scripted), store, ["AAAUSDT"], ["1m"], start=start)
    assert [query["startTime"] for query in scripted.queries].count(damaged[0]) == 2
    assert report.failures == []
    assert store.scan("1m").collect()["open_time"].to_list() == sorted(scripted.bars["AAAUSDT", "1m"])
    assert store.gaps("1m").is_empty()


@pytest.mark.usefixtures("small_batches")
def test_a_damaged_page_with_a_hole_is_asked_for_once_more_too(scripted, serve, store, monkeypatch) -> None:
    start = scripted.now - 15 * DAY_MS
    holes = range(start, scripted.now, 700 * MINUTE)
    scripted.fill("AAAUSDT", "1m", start, scripted.now, without=[at + 60 * MINUTE for at in holes])
    damaging(scripted, monkeypatch, broken, times=2)
    report = ingest_sync(serve(scripted), store, ["AAAUSDT"], ["1m"], start=start)
    assert report.failures == []
    assert store.scan("1m").collect()["open_time"].to_list() == sorted(scripted.bars["AAAUSDT", "1m"])


@pytest.mark.usefixtures("small_batches")
def test_what_a_page_does_not_settle_after_all_is_ledgered_as_a_failure(
    scripted, serve, store, monkeypatch
) -> None:
    """Its second answer is shorter, when the walk has gone on to what follows it."""
    start = scripted.now - 15 * DAY_MS
    scripted.fill("AAAUSDT", "1m", start, scripted.now)
    damaged = damaging(scripted, monkeypatch, broken)
    whole = scripted._klines

    def klines(query):
        again = query["startTime"] in damaged
        answer = whole(query | ({"limit": "400"} if again else {}))
        return answer

    monkeypatch.setattr(scripted, "_klines", klines)
    report = ingest_sync(serve(scripted), store, ["AAAUSDT"], ["1m"], start=start)
    first = int(damaged[0]) + 400 * MINUTE
    ledger = store.gaps("1m").select("start_time", "end_time", "cause").rows()
    assert ledger == [(first, first + 600 * MINUTE, "fetch_failed")]
    assert report.total("failed") == 600
    assert report.total("asked") == report.total("inserted") + 600
    monkeypatch.setattr(scripted, "_klines", whole)
    ingest_sync(serve(scripted), store, ["AAAUSDT"], ["1m"], start=start)
    assert store.scan("1m").collect().height == 15 * DAY_MS // MINUTE
    assert store.gaps("1m").is_empty()


@pytest.mark.usefixtures("small_batches")
def test_a_damaged_answer_to_a_single_question_is_tried_again(scripted, serve, monkeypatch) -> None:
    """Once the scanner is loaded, too: only pages of a walk are left unread."""
    start = scripted.now - DAY_MS
    scripted.fill("AAAUSDT", "1m", start, scripted.now)
    whole, asked = scripted._klines, []

    def klines(query):
        answer = whole(query)
        asked.append(query)
        if len(asked) == 1:
            answer.body = broken(answer.body)
        return answer

    monkeypatch.setattr(scripted, "_klines", klines)
    monkeypatch.setattr("market.transport._BACKOFF_BASE_S", 0.005)

    async def ask() -> int | None:
        async with ExchangeClient(serve(scripted)) as client:
            return await client.first_open_time("AAAUSDT", "1m")

    assert asyncio.run(ask()) == start
    assert len(asked) == 2


@pytest.mark.usefixtures("small_batches")
def test_an_exchange_that_falls_silent_keeps_no_bar_from_the_disk(
    scripted, serve, store, monkeypatch
) -> None:
    """An open day waits for its rest, but not for minutes: what has come is durable some seconds later."""
    monkeypatch.setattr(ingest_writer, "_GATHER_S", 0.05)
    monkeypatch.setattr(ingest_writer, "_SILENCE_S", 0.2)
    start = scripted.now - 15 * DAY_MS
    scripted.fill("AAAUSDT", "1m", start, scripted.now)
    whole, answers, silent, stored = scripted._klines, 0, threading.Event(), 0

    def klines(query):
        nonlocal answers, stored
        answers += 1
        if answers == 20 and not silent.is_set():
            silent.set()
            deadline = time.monotonic() + 30
            while (stored := store.scan("1m").collect().height) < 19_000 and time.monotonic() < deadline:
                time.sleep(0.05)
        return whole(query)

    monkeypatch.setattr(scripted, "_klines", klines)
    report = ingest_sync(serve(scripted), store, ["AAAUSDT"], ["1m"], start=start, concurrency=1)
    assert stored == 19_000
    assert report.failures == []
    assert store.scan("1m").collect()["open_time"].to_list() == sorted(scripted.bars["AAAUSDT", "1m"])
