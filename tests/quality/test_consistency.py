"""One interval against another: real bars agree, a changed minute is found, and what cannot be said is not said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market.consistency import compare, compare_stored, pairs_to_compare
from market.klines import STORED_SCHEMA
from market.store import KlineStore
from tests.quality.oracle import COLUMNS, LENGTHS, recorded_rows

MINUTE = 60_000


def recorded(folder: Path, name: str) -> pl.DataFrame:
    """A recording as the store holds it."""
    interval = name.rpartition("_")[2]
    symbol = name.rpartition("_")[0].replace("_", "")
    frame = pl.DataFrame(recorded_rows(folder / f"{name}.parquet", interval), schema=COLUMNS, orient="row")
    return frame.with_columns(symbol=pl.lit(symbol)).select(
        pl.col(name).cast(kind) for name, kind in STORED_SCHEMA.items()
    )


def naive(finer: pl.DataFrame, coarse: pl.DataFrame, parts: int, length: int) -> tuple[int, set[int]]:
    """Compare bar by bar in plain Python, volumes as whole units of 10^-8: how many, and which differ."""
    held = {row[0]: row[1:] for row in finer.select(COLUMNS[:6]).iter_rows()}
    compared, differing = 0, set()
    for at, *values in coarse.select(COLUMNS[:6]).iter_rows():
        inside = [held.get(at + n * length // parts) for n in range(parts)]
        if None in inside:
            continue
        compared += 1
        traded = [bar for bar in inside if bar[4] > 0] or inside
        wanted = [
            traded[0][0],
            max(bar[1] for bar in traded),
            min(bar[2] for bar in traded),
            inside[-1][3],
            sum(round(bar[4] * 10**8) for bar in inside),
        ]
        if [*values[:4], round(values[4] * 10**8)] != wanted:
            differing.add(at)
    return compared, differing


# The one 30m bar that differs is the last of its recording: it was still open when it was recorded.
LAST_HALF_HOUR = 1_515_760_200_000


@pytest.mark.parametrize(
    ("fine", "coarse", "bars", "compared", "differing"),
    [
        (
            "XRP_ETH_1m",
            "XRP_ETH_5m",
            706,
            151,
            set(),
        ),  # of the other 555 some minute without a trade has no bar
        ("UNITTEST_BTC_5m", "UNITTEST_BTC_30m", 1_920, 112, {LAST_HALF_HOUR}),
        ("UNITTEST_BTC_1m", "UNITTEST_BTC_5m", 5_760, 0, set()),  # recorded at other times
        ("UNITTEST_BTC_1m", "UNITTEST_BTC_30m", 1_920, 0, set()),
    ],
)
def test_recorded_intervals(
    shared_data: Path, fine: str, coarse: str, bars: int, compared: int, differing: set[int]
) -> None:
    folder = shared_data / "klines" / "small_with_gaps"
    finer, longer = recorded(folder, fine), recorded(folder, coarse)
    assert longer.height == bars
    short, long = fine.rpartition("_")[2], coarse.rpartition("_")[2]
    found = compare(finer, longer, short, long)
    assert (found.compared, set(found.differences["open_time"])) == (compared, differing)
    assert found.differing == len(differing)
    assert naive(finer, longer, LENGTHS[long] // LENGTHS[short], LENGTHS[long]) == (compared, differing)


def test_a_bar_that_was_recorded_while_open_is_found_with_both_values(shared_data: Path) -> None:
    folder = shared_data / "klines" / "small_with_gaps"
    found = compare(recorded(folder, "UNITTEST_BTC_5m"), recorded(folder, "UNITTEST_BTC_30m"), "5m", "30m")
    assert found.differences.select("column", "stored", "from_finer").rows() == [
        ("high", 0.0893, 0.09101839),
        ("close", 0.0888, 0.09097993),
        ("volume", 902.61078443, 5049.77943741),
    ]


def simulated(symbols: int = 3, hours: int = 2) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Minutes of several symbols with all columns, and their five-minute bars added up in whole units."""
    random, rows, coarse = np.random.default_rng(1), [], []
    for number in range(symbols):
        price = 10_000
        for five in range(hours * 12):
            inside = []
            for at in range(five * 5, five * 5 + 5):
                opened = price
                price = max(1, price + int(random.integers(-20, 21)))
                high, low = max(opened, price) + int(random.integers(0, 5)), min(opened, price)
                volume, trades = int(random.integers(1, 10**10)), int(random.integers(1, 99))
                inside.append(
                    (at, opened, high, low, price, volume, 2 * volume, trades, volume // 3, volume // 2)
                )
            rows += [(f"S{number}", *bar) for bar in inside]
            sums = [sum(bar[column] for bar in inside) for column in range(5, 10)]
            high, low = max(bar[2] for bar in inside), min(bar[3] for bar in inside)
            coarse.append((f"S{number}", five * 5, inside[0][1], high, low, inside[-1][4], *sums))
    return as_bars(rows, MINUTE), as_bars(coarse, 5 * MINUTE)


def as_bars(rows: list[tuple[object, ...]], length: int) -> pl.DataFrame:
    """Turn whole units into the floats that print as these decimals."""
    units = {"open": 4, "high": 4, "low": 4, "close": 4, "volume": 8}
    units |= dict.fromkeys(("quote_volume", "taker_buy_base", "taker_buy_quote"), 8)
    frame = pl.DataFrame(rows, schema=["symbol", *COLUMNS[:6], *COLUMNS[7:]], orient="row")
    decimals = [pl.Series(name, frame[name].to_numpy() / 10**places) for name, places in units.items()]
    opened = frame["open_time"] * MINUTE
    times = [opened.alias("open_time"), (opened + (length - 1)).alias("close_time")]
    return frame.with_columns(*decimals, *times).select(
        pl.col(name).cast(kind) for name, kind in STORED_SCHEMA.items()
    )


@pytest.fixture
def held(home: Path):
    """A store with both intervals, which agree to the last bit."""
    finer, longer = simulated()
    with KlineStore.open(home) as store:
        store.write("1m", finer)
        store.write("5m", longer)
        yield store


SYMBOLS = ["S0", "S1", "S2"]
END = 120 * MINUTE


def test_stored_intervals_agree_to_the_last_bit(held: KlineStore) -> None:
    found = compare_stored(held, "1m", "5m", SYMBOLS, 0, END)
    assert (found.compared, found.differing, found.differences.height) == (72, 0, 0)


@pytest.mark.parametrize(
    "column", ["high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_base"]
)
def test_one_changed_minute_is_found(held: KlineStore, column: str) -> None:
    minute = held.scan("1m", ["S1"], 39 * MINUTE, 40 * MINUTE).collect()  # the last of its five
    step = {"high": 1.0, "low": -0.5, "trades": 1}.get(column, 1e-8)
    changed = minute.with_columns(pl.col(column) + step)
    if column == "close":
        changed = minute.with_columns(close=pl.col("low") + (pl.col("close") == pl.col("low")) * 1e-4)
        changed = changed.with_columns(high=pl.max_horizontal("high", "close"))
    assert held.write("1m", changed).rows_updated == 1
    found = compare_stored(held, "1m", "5m", SYMBOLS, 0, END)
    assert (found.compared, found.differing) == (72, 1)
    assert set(found.differences.select("symbol", "open_time").rows()) == {("S1", 35 * MINUTE)}
    row = found.differences.row(by_predicate=pl.col("column") == column, named=True)
    stored = held.scan("5m", ["S1"], 35 * MINUTE, 40 * MINUTE).collect()
    assert row["stored"] == stored[column].item()
    assert row["from_finer"] != row["stored"]


def test_a_bar_of_which_a_minute_is_missing_is_not_compared(home: Path) -> None:
    finer, longer = simulated(symbols=1)
    with KlineStore.open(home) as store:
        store.write("1m", finer.filter(pl.col("open_time") != 17 * MINUTE))
        store.write("5m", longer.with_columns(pl.col("volume") * 2))
        found = compare_stored(store, "1m", "5m", ["S0"], 0, END)
    assert (found.compared, found.differing) == (23, 23)
    assert 15 * MINUTE not in found.differences["open_time"]


def test_only_whole_bars_of_the_span_are_compared(held: KlineStore) -> None:
    assert compare_stored(held, "1m", "5m", SYMBOLS, 3 * MINUTE, 28 * MINUTE).compared == 3 * 4
    assert compare_stored(held, "1m", "5m", [], 0, END).compared == 0


def test_many_symbols_are_compared_some_at_a_time_with_the_same_result(
    held: KlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.write("5m", held.scan("5m", ["S2"]).collect().with_columns(pl.col("trades") + 1))
    whole = compare_stored(held, "1m", "5m", SYMBOLS, 0, END)
    monkeypatch.setattr("market.consistency._BARS_AT_ONCE", 10)
    parts = compare_stored(held, "1m", "5m", SYMBOLS, 0, END)
    assert whole.differing == 24
    assert whole.differences.equals(parts.differences)
    assert (whole.compared, whole.differing) == (parts.compared, parts.differing)


def test_each_interval_is_held_against_the_longest_that_divides_it() -> None:
    assert pairs_to_compare(["15m", "1m", "5m", "1h"]) == [("1m", "5m"), ("5m", "15m"), ("15m", "1h")]
    assert pairs_to_compare(["3m", "5m"]) == []
    assert pairs_to_compare(["1d", "1w"]) == [("1d", "1w")]
