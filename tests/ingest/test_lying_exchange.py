"""An exchange whose clock jumps, or that serves sound rows where they do not belong: nothing wrong stays stored."""

from __future__ import annotations

import logging
from collections.abc import Callable

import orjson
import pytest

from market.ingest import DAY_MS, ingest_sync
from market.ingest_report import IngestReport
from market.page_order import OUT_OF_ORDER
from market.store import KlineStore
from tests.ingest.conftest import json_response

MINUTE, HOUR = 60_000, 3_600_000
NOW = 1_700_006_400_000 + DAY_MS
START = NOW - 5_000 * MINUTE


@pytest.fixture
def exchange(scripted):
    scripted.fill("AAAUSDT", "1m", START, NOW)
    return scripted


@pytest.fixture
def update(exchange, serve: Callable[..., str], store: KlineStore) -> Callable[[], IngestReport]:
    url = serve(exchange)
    return lambda: ingest_sync(url, store, ["AAAUSDT"], ["1m"], start=START)


def is_true(exchange, store: KlineStore) -> bool:
    stored = store.scan("1m").select("open_time", "close").collect().rows()
    return stored == [(at, float(row[4])) for at, row in sorted(exchange.bars["AAAUSDT", "1m"].items())]


def test_a_bar_that_a_clock_an_hour_ahead_had_called_closed_is_looked_at_again(
    exchange, update, store
) -> None:
    rows = exchange.bars["AAAUSDT", "1m"]
    rows[NOW] = exchange.bar(NOW, MINUTE, close=1.1)  # still open
    exchange.now = NOW + HOUR
    update()
    [gap] = store.gaps("1m").select("start_time", "cause").rows()
    assert gap == (NOW + MINUTE, "outage")
    exchange.now = NOW + 2 * HOUR
    exchange.fill("AAAUSDT", "1m", NOW, NOW + 2 * HOUR)
    exchange.queries.clear()
    report = update()
    assert len(exchange.queries) == 1, "it costs no request more"
    assert report.revisions.select("open_time", "close_before", "close").rows() == [(NOW, 1.1, 1.5)]
    assert store.gaps("1m").is_empty() and is_true(exchange, store)


def test_a_clock_that_goes_back_is_told_and_costs_nothing(
    exchange, update, store, caplog: pytest.LogCaptureFixture
) -> None:
    update()
    assert caplog.text == ""
    exchange.now = NOW - HOUR
    with caplog.at_level(logging.WARNING):
        assert update().requests == 1
    assert "the exchange's clock says 2023-11-15 23:00:00 UTC" in caplog.text
    assert is_true(exchange, store)


def test_rows_of_wrong_times_are_never_stored_and_the_true_bars_come(
    exchange, update, store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every other answer a row in the middle claims a time far ahead, and the last row does, too."""
    whole, answers, seen = exchange._klines, [0], []

    def klines(query):
        answer = whole(query)
        rows = orjson.loads(answer.body)
        answers[0] += 1
        if answers[0] % 2 and len(rows) > 500:
            for at, ahead in ((250, 1_500), (-1, 1_200)):
                claimed = rows[at][0] + ahead * MINUTE
                if claimed < NOW:
                    rows[at] = exchange.bar(claimed, MINUTE, close=1.25)
        seen.append(store.scan("1m").filter(close=1.25).collect().height)
        return json_response(rows)

    monkeypatch.setattr(exchange, "_klines", klines)
    update()
    quarantined = store.quarantined("1m")
    assert OUT_OF_ORDER in set(quarantined["reason"]) and max(seen) == 0
    assert store.scan("1m").filter(close=1.25).collect().is_empty()
    assert set(store.gaps("1m")["cause"]) == {"refused_rows"}
    monkeypatch.setattr(exchange, "_klines", whole)
    exchange.now = NOW + 6 * MINUTE
    exchange.fill("AAAUSDT", "1m", NOW, exchange.now)
    update()
    assert is_true(exchange, store) and store.gaps("1m").is_empty()
