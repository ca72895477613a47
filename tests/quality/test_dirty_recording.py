"""An hour's bars as a careless downloader left them: each row is stored, quarantined or refused by name."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import orjson
import polars as pl
import pytest

from tests.quality.oracle import COLUMNS, Expected, expect, joined, recorded_rows

HOUR = 3_600_000
START = 1_502_942_400_000  # 2017-08-17 04:00, the first row
LAST = 1_607_385_600_000  # 2020-12-08 00:00, the last row: the bar that was open when the file was left
NOW = LAST + 120_000


@pytest.fixture(scope="module")
def dirty(replay):
    return replay("binance_spot_dirty", ["BTCUSDT"], ["1h"], START, NOW)


@pytest.fixture(scope="module")
def expected(dirty) -> Expected:
    return expect(recorded_rows(dirty.folder / "BTCUSDT_1h.parquet", "1h"), "1h", START, NOW)


def test_the_recording_is_as_dirty_as_it_is_said_to_be(dirty, expected: Expected) -> None:
    rows = recorded_rows(dirty.folder / "BTCUSDT_1h.parquet", "1h")
    reasons = Counter(reason for reason, _ in expected.quarantined)
    assert len(rows) == 28_909
    assert reasons == {
        "open_time is not on the 1h grid": 43,
        "close_time is not open_time + 3599999": 8,
        "contradicts another row of the same open_time": 8,
    }
    assert len(expected.stored) == 28_849 == 28_909 - 43 - 8 - 8 - 1, "all but the refused and the open one"


def test_every_sound_row_is_stored_bit_for_bit(dirty, expected: Expected) -> None:
    stored = dirty.store.scan("1h", ["BTCUSDT"]).select(COLUMNS).collect()
    assert stored.rows() == expected.stored
    assert dirty.report.total("inserted") == 28_849


def test_every_refused_row_is_in_quarantine_with_its_reason_and_text(dirty, expected: Expected) -> None:
    aside = dirty.store.quarantined("1h")
    assert dirty.report.total("refused") == aside.height == 59
    assert aside["source"].unique().to_list() == [dirty.exchange.url]
    kept = []
    for reason, content in aside.select("reason", "raw").iter_rows():
        sent = orjson.loads(orjson.loads(content)["raw"])
        assert len(sent) == 12, "the row as it was sent, its unused field too"
        kept.append((reason, tuple(float(value) for value in sent[:11])))
    wanted = [(reason, tuple(float(value) for value in row)) for reason, row in expected.quarantined]
    assert sorted(kept) == sorted(wanted)


def test_every_missing_hour_is_ledgered_with_its_cause(dirty, expected: Expected) -> None:
    ledger = dirty.store.gaps("1h", ["BTCUSDT"])
    assert joined(ledger) == expected.ledger
    hours = {
        cause: sum((end - start) // HOUR for start, end, named in expected.ledger if named == cause)
        for _, _, cause in expected.ledger
    }
    assert hours == {"outage": 109, "refused_rows": 54}
    assert (LAST - START) // HOUR == 28_849 + 109 + 54, "stored and ledgered together are every closed hour"
    assert ledger["checked_time"].unique().to_list() == [NOW]


def test_the_three_hours_of_which_several_rows_came_are_not_stored(dirty) -> None:
    disputed = [1_607_079_600_000, 1_607_083_200_000, 1_607_378_400_000]
    stored = dirty.store.scan("1h").filter(pl.col("open_time").is_in(disputed)).collect()
    assert stored.is_empty()
    aside = dirty.store.quarantined("1h").filter(pl.col("open_time").is_in(disputed))
    assert Counter(aside["open_time"]) == dict(zip(disputed, (3, 2, 3), strict=True))


def test_the_misaligned_hours_are_those_of_one_restart(dirty) -> None:
    aside = dirty.store.quarantined("1h").filter(pl.col("reason").str.contains("grid")).sort("open_time")
    first, last = aside["open_time"][0], aside["open_time"][-1]
    assert datetime.fromtimestamp(first / 1000, UTC).isoformat() == "2018-02-09T09:28:14.789000+00:00"
    assert (last - first) // HOUR == 42
    covering = dirty.store.gaps("1h").filter(
        (pl.col("start_time") <= first) & (pl.col("end_time") > last) & (pl.col("cause") == "refused_rows")
    )
    assert covering.height == 1, "one row of the ledger names all of them"


def test_a_second_run_asks_for_nothing_and_changes_nothing(dirty) -> None:
    before = dirty.store.scan("1h").collect(), dirty.store.gaps(), dirty.store.quarantined()
    report = dirty.again(["BTCUSDT"], ["1h"], START)
    assert dirty.exchange.info()["served"]["total"]["requests"] == 1, "the clock alone"
    assert report.total("inserted") == report.total("refused") == 0
    after = dirty.store.scan("1h").collect(), dirty.store.gaps(), dirty.store.quarantined()
    assert all(a.equals(b) for a, b in zip(before, after, strict=True))
    assert dirty.store.verify() == []


def test_the_open_hour_is_stored_when_its_close_time_has_passed_and_not_before(dirty) -> None:
    for now, last in ((LAST + HOUR - 1, LAST - HOUR), (LAST + HOUR, LAST)):
        dirty.exchange.set_clock(now_ms=now)
        dirty.again(["BTCUSDT"], ["1h"], START)
        assert dirty.store.spans("1h")["last_open_time"].to_list() == [last]
