"""Five pairs over 33 months with the exchange's real outages, and LUNA's fall: each missing hour is ledgered."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest

from tests.quality.oracle import COLUMNS, Expected, expect, joined, recorded_rows

HOUR = 3_600_000
START = 1_617_566_400_000  # 2021-04-04 20:00, the first row of BTC and ETH; the others begin an hour later
NOW = 1_703_966_400_000  # 2023-12-30 20:00, the end of the last rows; BTC's is an hour earlier
STORED = {"BNBUSDT": 23_987, "BTCUSDT": 23_987, "ETHUSDT": 23_988, "LUNAUSDT": 23_550, "XRPUSDT": 23_987}

# First hour (UTC) and hours without a bar of any of the five.
OUTAGES = [
    ("2021-04-20T02:00", 2),
    ("2021-04-25T05:00", 3),
    ("2021-08-13T02:00", 4),
    ("2021-09-29T07:00", 2),
    ("2023-03-24T13:00", 1),
]
LUNA_SUSPENDED = (
    "2022-05-13T01:00",
    437,
)  # trading ended, the chain was split, the new coin came on 2022-05-31


@pytest.fixture(scope="module")
def outages(replay):
    return replay("binance_spot_outages", list(STORED), ["1h"], START)


@pytest.fixture(scope="module")
def expected(outages) -> dict[str, Expected]:
    return {
        symbol: expect(recorded_rows(outages.folder / f"{symbol}_1h.parquet", "1h"), "1h", START, NOW)
        for symbol in STORED
    }


@pytest.mark.parametrize("symbol", STORED)
def test_every_bar_is_stored_bit_for_bit(outages, expected: dict[str, Expected], symbol: str) -> None:
    stored = outages.store.scan("1h", [symbol]).select(COLUMNS).collect()
    assert stored.rows() == expected[symbol].stored
    assert stored.height == STORED[symbol]
    assert outages.store.quarantined().is_empty()


@pytest.mark.parametrize("symbol", STORED)
def test_every_missing_hour_is_ledgered(outages, expected: dict[str, Expected], symbol: str) -> None:
    ledger = joined(outages.store.gaps("1h", [symbol]))
    assert ledger == expected[symbol].ledger
    said = [
        (datetime.fromtimestamp(start / 1000, UTC).isoformat()[:16], (end - start) // HOUR)
        for start, end, cause in ledger
        if cause == "outage"
    ]
    assert said == sorted([*OUTAGES, *([LUNA_SUSPENDED] if symbol == "LUNAUSDT" else [])])
    late = [] if symbol in ("BTCUSDT", "ETHUSDT") else [(START, START + HOUR, "before_listing")]
    assert [row for row in ledger if row[2] != "outage"] == late


def test_the_hour_that_btc_lacks_at_the_end_may_still_come(outages) -> None:
    tallies = {tally.symbol: tally for tally in outages.report.series}
    assert {symbol: tally.pending for symbol, tally in tallies.items()} == {
        symbol: int(symbol == "BTCUSDT") for symbol in STORED
    }
    hours = (NOW - START) // HOUR
    for symbol, tally in tallies.items():
        assert STORED[symbol] + tally.gaps + tally.pending == hours, "each hour is accounted for once"


def test_a_second_run_asks_for_the_pending_hour_alone(outages) -> None:
    outages.again(list(STORED), ["1h"], START)
    served = outages.exchange.info()["served"]["total"]
    assert (served["requests"], served["rows"]) == (2, 0), "the clock, and one request that brings nothing"
    assert outages.store.verify() == []


def test_an_outage_of_the_exchange_differs_from_one_of_a_single_symbol(outages) -> None:
    """In the ledger both are an outage; how many symbols share the span tells them apart."""
    spans = Counter(outages.store.gaps("1h").filter(cause="outage").select("start_time", "end_time").rows())
    assert Counter(spans.values()) == {5: 5, 1: 1}
