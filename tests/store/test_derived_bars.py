"""Notes of derived bars, in SQLite and PostgreSQL: a stretch a day, in the transaction that stores the bars."""

from __future__ import annotations

import polars as pl

from market.store import KlineStore

DAY_MS, STEP = 86_400_000, 300_000
DAY = 1_735_689_600_000


def bars(symbol: str, *opened: int) -> pl.DataFrame:
    return pl.DataFrame([
        {"symbol": symbol, "open_time": at, "open": 1.0, "high": 2.0, "low": 1.0, "close": 1.5, "volume": 9.0,
         "close_time": at + STEP - 1, "quote_volume": 13.0, "trades": 7, "taker_buy_base": 4.0,
         "taker_buy_quote": 5.0}
        for at in opened
    ])  # fmt: skip


def notes(store: KlineStore) -> list[tuple[str, int, int, int, int]]:
    columns = ("symbol", "day", "start_time", "end_time", "checked_time")
    return store.derived("5m").select(columns).rows()


def test_stretches_grow_by_day_until_they_are_settled(store: KlineStore) -> None:
    assert store.write_derived("5m", bars("AAAUSDT", DAY + 10 * STEP, DAY + 11 * STEP)) == 2
    assert store.write_derived("5m", bars("AAAUSDT", DAY + 14 * STEP)) == 1
    assert store.write_derived("5m", bars("BBBUSDT", DAY + DAY_MS - STEP, DAY + DAY_MS)) == 2
    wanted = [
        ("AAAUSDT", DAY, DAY + 10 * STEP, DAY + 15 * STEP, 0),
        ("BBBUSDT", DAY, DAY + DAY_MS - STEP, DAY + DAY_MS, 0),
        ("BBBUSDT", DAY + DAY_MS, DAY + DAY_MS, DAY + DAY_MS + STEP, 0),
    ]
    assert notes(store) == wanted
    assert store.derived("15m").is_empty()
    assert store.derived(symbols=["BBBUSDT"]).height == 2
    store.settle_derived("5m", [wanted[0][:4]], [wanted[1][:4]], 77)
    assert notes(store) == [(*wanted[1][:4], 77), wanted[2]]
    assert store.write_derived("5m", bars("BBBUSDT", DAY + DAY_MS - 2 * STEP)) == 1
    assert notes(store)[0] == ("BBBUSDT", DAY, DAY + DAY_MS - 2 * STEP, DAY + DAY_MS, 77), (
        "when it was asked stays"
    )
    assert store.scan("5m").collect().height == 6
    assert store.verify() == []


def test_what_is_derived_while_others_are_confirmed_stays_to_be_confirmed(store: KlineStore) -> None:
    store.write_derived("5m", bars("AAAUSDT", DAY + 10 * STEP, DAY + 11 * STEP))
    (read,) = [note[:4] for note in notes(store)]
    store.write_derived("5m", bars("AAAUSDT", DAY + 12 * STEP))  # by another ingest, while this one asks
    store.settle_derived("5m", [read], [], 77)
    assert notes(store) == [("AAAUSDT", DAY, DAY + 12 * STEP, DAY + 13 * STEP, 0)]
    store.write_derived("5m", bars("AAAUSDT", DAY + 9 * STEP))
    store.settle_derived("5m", [], [("AAAUSDT", DAY, DAY + 12 * STEP, DAY + 13 * STEP)], 78)
    assert notes(store) == [("AAAUSDT", DAY, DAY + 9 * STEP, DAY + 13 * STEP, 0)], (
        "not all of it was asked for"
    )
    store.settle_derived("5m", [("AAAUSDT", DAY, DAY + 12 * STEP, DAY + 13 * STEP)], [], 79)
    assert notes(store) == [("AAAUSDT", DAY, DAY + 9 * STEP, DAY + 12 * STEP, 0)]
    store.settle_derived("5m", [("AAAUSDT", DAY, DAY, DAY + DAY_MS)], [], 80)
    assert notes(store) == []


def test_what_is_stored_already_is_neither_overwritten_nor_noted(store: KlineStore) -> None:
    store.write("5m", bars("AAAUSDT", DAY))
    other = bars("AAAUSDT", DAY, DAY + STEP).with_columns(close=pl.lit(1.75))
    assert store.write_derived("5m", other) == 1
    assert store.scan("5m").collect()["close"].to_list() == [1.5, 1.75]
    assert notes(store) == [("AAAUSDT", DAY, DAY + STEP, DAY + 2 * STEP, 0)]
    assert store.write_derived("5m", other) == 0
