"""Twelve thinly traded pairs on three intervals, with hundreds of holes: every one of them is in the ledger."""

from __future__ import annotations

import polars as pl
import pytest

from tests.quality.oracle import COLUMNS, LENGTHS, expect, joined, recorded_rows

START = 1_509_836_520_000  # 2017-11-04 23:02, the first row of all
NOW = 1_570_965_600_000  # 2019-10-13 11:20, the end of the last row

# File, symbol on the exchange, first row, rows, outages and bars that these hold, bars after the last one: each pair
# but XRP_ETH ends in January 2018 or before, and the replay goes on.
RECORDED = [
    ("ADA_BTC_5m", "ADABTC", 1_515_560_100_000, 5_720, 5, 40, 178_923),
    ("DASH_BTC_5m", "DASHBTC", 1_515_560_100_000, 5_758, 2, 2, 178_923),
    ("ETC_BTC_5m", "ETCBTC", 1_515_560_100_000, 5_759, 0, 0, 178_924),
    ("ETH_BTC_5m", "ETHBTC", 1_515_560_100_000, 5_760, 0, 0, 178_923),
    ("LTC_BTC_5m", "LTCBTC", 1_515_560_100_000, 5_760, 0, 0, 178_923),
    ("NXT_BTC_5m", "NXTBTC", 1_515_560_100_000, 5_760, 0, 0, 178_923),
    ("TRX_BTC_5m", "TRXBTC", 1_515_560_100_000, 5_754, 6, 6, 178_923),
    ("UNITTEST_BTC_1m", "UNITTESTBTC", 1_509_836_520_000, 13_681, 538, 717, 1_004_415),
    ("UNITTEST_BTC_30m", "UNITTESTBTC", 1_512_306_000_000, 1_920, 0, 0, 30_667),
    ("UNITTEST_BTC_5m", "UNITTESTBTC", 1_515_560_100_000, 5_760, 0, 0, 178_923),
    ("XLM_BTC_5m", "XLMBTC", 1_515_560_100_000, 5_760, 0, 0, 178_923),
    ("XMR_BTC_5m", "XMRBTC", 1_515_560_100_000, 5_758, 2, 2, 178_923),
    ("XRP_ETH_1m", "XRPETH", 1_570_752_000_000, 2_469, 675, 1_089, 0),
    ("XRP_ETH_5m", "XRPETH", 1_570_752_000_000, 706, 6, 6, 0),
    ("ZEC_BTC_5m", "ZECBTC", 1_515_560_100_000, 5_757, 2, 2, 178_924),
]
SYMBOLS = sorted({symbol for _, symbol, *_ in RECORDED})
INTERVALS = ["1m", "5m", "30m"]


@pytest.fixture(scope="module")
def thin(replay):
    return replay("small_with_gaps", SYMBOLS, INTERVALS, START)


@pytest.mark.parametrize(("name", "symbol", "first", "rows", "spans", "absent", "over"), RECORDED)
def test_every_bar_is_stored_and_every_hole_ledgered(
    thin, name: str, symbol: str, first: int, rows: int, spans: int, absent: int, over: int
) -> None:
    interval = name.rpartition("_")[2]
    length = LENGTHS[interval]
    start = -(-START // length) * length
    expected = expect(recorded_rows(thin.folder / f"{name}.parquet", interval), interval, start, NOW)
    assert thin.store.scan(interval, [symbol]).select(COLUMNS).collect().rows() == expected.stored
    assert len(expected.stored) == rows
    ledger = joined(thin.store.gaps(interval, [symbol]))
    assert ledger == expected.ledger
    later = [(start, end) for start, end, cause in ledger if cause == "outage"]
    assert (len(later), sum((end - start) // length for start, end in later)) == (spans, absent)
    earlier = [row for row in ledger if row[2] == "before_listing"]
    assert earlier == ([(start, first, "before_listing")] if first > start else [])
    ended = [row for row in ledger if row[2] == "not_listed_anymore"]
    assert sum((end - start) // length for start, end, _ in ended) == over
    assert len(ended) == min(1, over) and all(row == ledger[-1] for row in ended)


def test_what_was_never_recorded_is_ledgered_whole(thin) -> None:
    recorded = {(symbol, name.rpartition("_")[2]) for name, symbol, *_ in RECORDED}
    unrecorded = [(symbol, interval) for symbol in SYMBOLS for interval in INTERVALS]
    unrecorded = [key for key in unrecorded if key not in recorded]
    assert len(unrecorded) == 21
    for symbol, interval in unrecorded:
        [(start, end, cause)] = joined(thin.store.gaps(interval, [symbol]))
        assert cause == "before_listing", "the exchange has no bar of it at all"
        assert start == -(-START // LENGTHS[interval]) * LENGTHS[interval]
        assert 0 <= NOW - end <= max(300_000, 2 * LENGTHS[interval])


def test_nothing_was_refused_and_no_symbol_mixed_up(thin) -> None:
    assert thin.store.quarantined().is_empty()
    assert thin.report.failures == []
    held = thin.store.spans().select("symbol", "kline_interval", "rows").rows()
    assert sorted(held) == sorted(
        (symbol, name.rpartition("_")[2], rows) for name, symbol, _, rows, *_ in RECORDED
    )
    assert thin.store.verify() == []


def test_a_second_run_asks_for_what_may_still_come_alone(thin) -> None:
    before = thin.store.scan("1m").collect(), thin.store.gaps().drop("checked_time")
    thin.again(SYMBOLS, INTERVALS, START)
    assert thin.exchange.info()["served"]["total"]["rows"] == 0
    after = thin.store.scan("1m").collect(), thin.store.gaps().drop("checked_time")
    assert all(a.equals(b) for a, b in zip(before, after, strict=True))


def test_panels_show_the_holes_as_nan(thin) -> None:
    panel = thin.store.panel("1m", ["XRPETH"])
    close = panel.columns["close"][:, 0]
    assert len(close) == 3_560, "every minute from the first to the last bar"
    stored = thin.store.scan("1m", ["XRPETH"]).collect()
    assert int((close == close).sum()) == stored.height == 2_469
    assert panel.open_time[close == close].tolist() == stored["open_time"].to_list()
    assert stored.filter(pl.col("close").is_nan()).is_empty()
