"""Against the built-in exchange as it misbehaves: what is served in the end is stored, the rest is told."""

from __future__ import annotations

import json
import logging
import urllib.request
from typing import Any

import polars as pl
import pytest

from market import progress, rate_limit, transport
from market.client_errors import (
    BannedError,
    FirewallError,
    RateLimitedError,
    RegionBlockedError,
    RetriesExhaustedError,
    UnreachableError,
)
from market.exchange.launch import RunningExchange, start_exchange
from market.ingest import ingest_sync
from market.rate_limit import budget_of
from market.store import KlineStore

NOW = 1_735_700_000_000
MINUTE = 60_000
BARS = 2_500
START = NOW // MINUTE * MINUTE - BARS * MINUTE


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_BACKOFF_BASE_S", 0.005)
    monkeypatch.setattr(
        rate_limit, "_budgets", {}
    )  # what one test was forbidden holds for none of the others


def raw_page(url: str, symbol: str, start: int, limit: int) -> list[Any]:
    query = f"symbol={symbol}&interval=1m&startTime={start}&limit={limit}"
    with urllib.request.urlopen(f"{url}/api/v3/klines?{query}") as answer:
        return list(json.load(answer))


def is_complete(store: KlineStore, served: RunningExchange, symbol: str) -> bool:
    closes = store.scan("1m", [symbol]).collect()["close"].to_list()
    pages = [raw_page(served.url, symbol, START + at * MINUTE, 1000) for at in (0, 1000, 2000)]
    by_time = {row[0]: float(row[4]) for page in pages for row in page if row[6] < NOW}
    return closes == [by_time[at] for at in sorted(by_time)]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "retry_after": 1, "count": 1},
        {"status": 418, "retry_after": 1, "count": 1},
        {"status": 500, "count": 4},
        {"status": 502, "body": "<html>bad gateway</html>", "count": 4},
        {"truncate": True, "count": 3},
        {"reset": True, "count": 3},
    ],
    ids=lambda fault: str(next(iter(fault.items()))),
)
def test_passing_faults_leave_no_trace(
    served: RunningExchange, store: KlineStore, fault: dict[str, Any]
) -> None:
    symbols = served.info()["symbols"][:3]
    served.add_fault(path="/api/v3/klines", **fault)
    report = ingest_sync(served.url, store, symbols, ["1m"], start=START)
    assert report.failures == []
    assert report.retries > 0 or "reset" in fault
    assert all(is_complete(store, served, symbol) for symbol in symbols)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 451}, RegionBlockedError),
        ({"status": 403}, FirewallError),
        ({"status": 418, "retry_after": 7200}, BannedError),
        ({"status": 429, "retry_after": 7200}, RateLimitedError),
    ],
    ids=["451", "403", "418", "429"],
)
def test_a_host_that_will_not_serve_ends_it_and_what_came_before_is_kept(
    served: RunningExchange, store: KlineStore, fault: dict[str, Any], kind: type[Exception]
) -> None:
    first, *others = served.info()["symbols"]
    ingest_sync(served.url, store, [first], ["1m"], start=START)
    served.add_fault(path="/api/v3/klines", count=None, **fault)
    served.reset_counters()
    with pytest.raises(kind) as failure:
        ingest_sync(served.url, store, [first, *others], ["1m"], start=START - 100 * MINUTE)
    assert served.url in failure.value.where  # type: ignore[attr-defined]
    assert served.info()["served"]["total"]["requests"] <= 1 + 8, "no more than were in flight"
    served.clear_faults()
    assert is_complete(store, served, first)


def test_a_host_that_only_fails_is_given_up_soon(served: RunningExchange, store: KlineStore) -> None:
    served.add_fault(path="/api/v3/klines", status=503, count=None)
    with pytest.raises(RetriesExhaustedError, match="3 attempts"):
        ingest_sync(served.url, store, served.info()["symbols"], ["1m", "5m", "15m"], start=START, attempts=3)
    assert served.info()["served"]["total"]["requests"] <= 1 + 3 * (8 + 3)


def test_one_symbol_that_fails_does_not_stop_the_others(served: RunningExchange, store: KlineStore) -> None:
    bad, *good = served.info()["symbols"][:3]
    served.add_fault(path="/api/v3/klines", symbol=bad, status=500, count=None)
    report = ingest_sync(served.url, store, [bad, *good], ["1m"], start=START, attempts=2)
    assert [(failure.symbol, failure.interval) for failure in report.failures] == [(bad, "1m")]
    assert "HTTP 500" in report.failures[0].error.what
    served.clear_faults()
    assert all(is_complete(store, served, symbol) for symbol in good)
    assert ingest_sync(served.url, store, [bad, *good], ["1m"], start=START).failures == []
    assert is_complete(store, served, bad)


def test_what_could_not_be_fetched_is_ledgered_asked_for_at_every_run_and_heals(
    served: RunningExchange, store: KlineStore
) -> None:
    bad, *others = served.info()["symbols"][:3]
    ingest_sync(served.url, store, [bad], ["1m"], start=START, end=START + 100 * MINUTE)
    for good in others:  # a second time well before a gap of another cause would be looked at
        served.add_fault(path="/api/v3/klines", symbol=bad, status=500, count=None)
        served.reset_counters()
        report = ingest_sync(served.url, store, [bad, good], ["1m"], start=START, attempts=2)
        assert [failure.symbol for failure in report.failures] == [bad]
        assert report.to_frame().filter(pl.col("symbol") == bad)["failed"].item() == BARS - 100
        assert served.info()["served"]["routes"]["/api/v3/klines"]["refused"] == 2, "asked, in vain"
        served.clear_faults()
        [row] = store.gaps("1m", [bad]).rows(named=True)
        end = START + BARS * MINUTE
        assert (row["start_time"], row["end_time"], row["cause"]) == (
            START + 100 * MINUTE,
            end,
            "fetch_failed",
        )
        assert row["checked_time"] == NOW
        assert is_complete(store, served, good)
    ingest_sync(served.url, store, [bad], ["1m"], start=START)
    assert store.gaps("1m", [bad]).filter(pl.col("cause") == "fetch_failed").is_empty()
    assert is_complete(store, served, bad)


def test_a_question_for_the_listing_that_fails_is_ledgered_too(
    served: RunningExchange, store: KlineStore
) -> None:
    bad, good = served.info()["symbols"][:2]
    start = (
        NOW - NOW % MINUTE - 9_000 * MINUTE
    )  # long enough to ask for the first bar of all, before any other
    served.add_fault(path="/api/v3/klines", symbol=bad, status=500, count=2)
    report = ingest_sync(served.url, store, [bad, good], ["1m"], start=start, attempts=2)
    assert [failure.symbol for failure in report.failures] == [bad]
    [row] = store.gaps("1m", [bad]).rows(named=True)
    assert (row["start_time"], row["cause"]) == (start, "fetch_failed")
    assert (row["end_time"] - start) // MINUTE == report.to_frame()["failed"].sum() == 9_000
    assert ingest_sync(served.url, store, [bad, good], ["1m"], start=start).failures == []
    assert store.gaps("1m", [bad]).filter(cause="fetch_failed").is_empty()


def test_what_failed_heals_although_the_history_has_moved_on(
    served: RunningExchange, store: KlineStore
) -> None:
    bad, good = served.info()["symbols"][:2]
    served.add_fault(path="/api/v3/klines", symbol=bad, status=500, count=None)
    ingest_sync(served.url, store, [bad, good], ["1m"], start=START, attempts=1)
    served.clear_faults()
    ingest_sync(served.url, store, [bad, good], ["1m"], start=START + 100 * MINUTE)
    assert store.gaps("1m", [bad]).filter(cause="fetch_failed").is_empty()
    assert is_complete(store, served, bad)


def test_a_symbol_that_does_not_exist_is_no_gap(served: RunningExchange, store: KlineStore) -> None:
    symbol = served.info()["symbols"][0]
    ingest_sync(served.url, store, [symbol, "NOPEUSDT"], ["1m"], start=START)
    assert store.gaps("1m", ["NOPEUSDT"]).is_empty()


def test_trouble_that_lasts_is_told_while_it_is_tried_again(
    served: RunningExchange,
    store: KlineStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(transport, "_full_jitter", lambda attempt: 0.1)
    monkeypatch.setattr(progress, "LOOK_S", 0.01)
    symbol = served.info()["symbols"][0]
    served.add_fault(path="/api/v3/klines", status=500, count=3)
    told = []
    with caplog.at_level(logging.WARNING):
        ingest_sync(served.url, store, [symbol], ["1m"], start=NOW - 100 * MINUTE, progress=told.append)
    wanted = [
        "exchange answers HTTP 500, trying again (3 of 6)",
        "exchange answers HTTP 500, trying again (4 of 6)",
    ]
    assert [report.trouble for report in told if report.trouble] == wanted
    assert caplog.text == "", "it is told once: by the progress, not by a log beside it"
    assert told[-1].detail == f"{symbol} 1m"
    served.add_fault(path="/api/v3/time", status=500, count=3)
    with caplog.at_level(logging.WARNING):
        ingest_sync(served.url, store, [symbol], ["1m"], start=NOW - 100 * MINUTE)
    assert [record.message for record in caplog.records] == [f"{served.url}: {text}" for text in wanted], (
        "without a progress there is the log"
    )


@pytest.mark.parametrize(
    "mutation", ["high_below_low", "not_a_number", "negative_volume", "missing_field", "taker_above_volume"]
)
def test_a_damaged_row_is_quarantined_and_ledgered(
    served: RunningExchange, store: KlineStore, mutation: str
) -> None:
    symbol = served.info()["symbols"][0]
    at = START + 1_100 * MINUTE
    sent = raw_page(served.url, symbol, at, 1)
    assert sent[0][0] == at
    served.add_fault(path="/api/v3/klines", malformed_row=True, open_time=at, mutation=mutation)
    report = ingest_sync(served.url, store, [symbol], ["1m"], start=START)
    assert report.total("refused") == 1
    aside = store.quarantined("1m")
    assert aside.select("symbol", "open_time").rows() == [(symbol, at)]
    assert str(at) in aside["raw"][0]
    ledger = store.gaps("1m", [symbol]).select("start_time", "end_time", "cause").rows()
    assert (at, at + MINUTE, "refused_rows") in ledger
    assert at not in store.scan("1m", [symbol]).collect()["open_time"]
    served.reset_counters()
    ingest_sync(served.url, store, [symbol], ["1m"], start=START)
    assert served.info()["served"]["total"]["requests"] == 1


def test_an_unreachable_host_ends_it(served: RunningExchange, store: KlineStore) -> None:
    with start_exchange(symbols=1, seed=3, now=NOW, speed=0) as gone:
        url = gone.url
    with pytest.raises(UnreachableError):
        ingest_sync(url, store, ["BTCUSDT"], ["1m"], start=START)


def test_the_exchanges_own_limit_is_never_hit(store: KlineStore) -> None:
    """A limit far below the usual one is learnt before many requests are sent."""
    with start_exchange(symbols=5, seed=3, now=NOW, speed=0, weight_limit=200) as exchange:
        symbols = exchange.info()["symbols"]
        report = ingest_sync(exchange.url, store, symbols, ["1m"], start=START - 8_000 * MINUTE)
        assert report.failures == []
        assert report.weight > 120
        assert exchange.info()["served"]["total"]["refused"] == 0
        assert budget_of(exchange.url.removeprefix("http://")).weight_per_minute == 200
