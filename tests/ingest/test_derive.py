"""Longer bars from shorter ones: exact against decimals, against the built-in exchange, and against real bars."""

from __future__ import annotations

import json
import operator
import urllib.request
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.derive import derive, divides
from market.exchange.launch import RunningExchange
from market.intervals import INTERVAL_MS
from market.klines import KLINE_COLUMNS, STORED_SCHEMA, validate

MINUTE = 60_000
NOW = 1_735_700_000_000
AMOUNTS = ("volume", "quote_volume", "taker_buy_base", "taker_buy_quote")


def minutes(count: int = 5, symbol: str = "AAAUSDT", start: int = 0, **columns: Any) -> pl.DataFrame:
    values: dict[str, Any] = {
        "symbol": [symbol] * count,
        "open_time": [start + at * MINUTE for at in range(count)],
        "open": [10.0] * count, "high": [12.0] * count, "low": [9.0] * count, "close": [11.0] * count,
        "volume": [2.5] * count,
        "close_time": [start + (at + 1) * MINUTE - 1 for at in range(count)],
        "quote_volume": [25.5] * count, "trades": [3] * count,
        "taker_buy_base": [1.25] * count, "taker_buy_quote": [12.5] * count,
    }  # fmt: skip
    return pl.DataFrame(values | columns, schema=STORED_SCHEMA)


def test_prices_counts_and_times() -> None:
    bars = minutes(
        10,
        open=[5.0, 6, 7, 6, 5, 4, 5, 6, 7, 8],
        high=[9.0, 9, 9, 9.5, 9, 9, 9, 9, 9, 9],
        low=[1.0, 2, 2, 2, 0.5, 3, 3, 3, 3, 2.5],
        close=[6.0, 7, 6, 5, 4, 5, 6, 7, 8, 8.5],
    )
    found = derive(bars, "1m", "5m")
    assert found.schema == STORED_SCHEMA
    assert found.select("open_time", "open", "high", "low", "close", "close_time", "trades").rows() == [
        (0, 5.0, 9.5, 0.5, 4.0, 299_999, 15),
        (300_000, 4.0, 9.0, 2.5, 8.5, 599_999, 15),
    ]
    assert validate(found, "5m")[1].is_empty()


decimals = st.tuples(st.integers(0, 8), st.lists(st.integers(0, 10**9), min_size=5, max_size=5)).map(
    lambda drawn: [Decimal(units).scaleb(-drawn[0]) for units in drawn[1]]
)


@given(decimals, decimals)
@settings(max_examples=100, deadline=None)
def test_sums_are_the_floats_nearest_to_the_sums_of_decimals(
    base: list[Decimal], quote: list[Decimal]
) -> None:
    bars = minutes(volume=[float(v) for v in base], quote_volume=[float(v) for v in quote],
                   taker_buy_base=[0.0] * 5, taker_buy_quote=[0.0] * 5)  # fmt: skip
    found = derive(bars, "1m", "5m")
    if max(*base, *quote) < Decimal(2**53).scaleb(-8):
        assert found.height == 1
    for row in found.iter_rows(named=True):
        assert row["volume"] == float(sum(base))
        assert row["quote_volume"] == float(sum(quote))


def test_adding_floats_would_have_been_wrong() -> None:
    volumes = [0.1, 0.7, 0.2, 0.1, 0.3]
    assert reduce(operator.add, volumes) != 1.4, "the plain sum, which that of Python 3.12 is not"
    assert derive(minutes(volume=volumes), "1m", "5m")["volume"].to_list() == [1.4]


@pytest.mark.parametrize("volumes", [
    [0.1 + 0.2, 1.0, 1.0, 1.0, 1.0],  # no decimal of 8 digits
    [1e-9, 1.0, 1.0, 1.0, 1.0],
    [9.1e15, 1.0, 1.0, 1.0, 1.0],  # the sum passes 2^53
    [123_456_789.1234567, 0.0, 0.0, 0.0, 0.0],  # 8 decimals would look the same
])  # fmt: skip
def test_amounts_that_are_not_decimals_beyond_doubt_are_not_derived(volumes: list[float]) -> None:
    assert derive(minutes(volume=volumes, taker_buy_base=[0.0] * 5), "1m", "5m").is_empty()


def test_large_whole_amounts_are_derived() -> None:
    volumes = [123_456_789_012.0, 3e11, 10_000_000_001.0, 55_555_555_555.0, 98_765_432_101.0]
    [volume] = derive(minutes(volume=volumes), "1m", "5m")["volume"]
    assert volume == sum(map(int, volumes))


def test_only_whole_bars_come_out_and_symbols_do_not_mix() -> None:
    bars = pl.concat([
        minutes(13, "AAAUSDT"),
        minutes(4, "BBBUSDT", start=0),
        minutes(7, "CCCUSDT", start=4 * MINUTE).filter(pl.col("open_time") != 7 * MINUTE),
        minutes(1, "DDDUSDT", start=4 * MINUTE),
        minutes(5, "EEEUSDT", start=5 * MINUTE),
    ])  # fmt: skip
    found = derive(bars, "1m", "5m").select("symbol", "open_time").rows()
    assert found == [("AAAUSDT", 0), ("AAAUSDT", 300_000), ("EEEUSDT", 300_000)]
    assert derive(bars.clear(), "1m", "5m").schema == STORED_SCHEMA


def test_what_no_part_knows_stays_unknown_and_what_some_know_is_not_derived() -> None:
    unknown = minutes(
        quote_volume=[None] * 5, trades=[None] * 5, taker_buy_base=[None] * 5, taker_buy_quote=[None] * 5
    )
    [found] = derive(unknown, "1m", "5m").iter_rows(named=True)
    assert (found["volume"], found["close"]) == (12.5, 11.0)
    assert [found[name] for name in ("quote_volume", "trades", "taker_buy_base", "taker_buy_quote")] == [
        None
    ] * 4
    assert derive(minutes(trades=[1, None, 1, 1, 1]), "1m", "5m").is_empty()


def test_minutes_without_a_trade_give_no_price() -> None:
    """They repeat the close before, which lies outside the prices of this bar: its open is that of its first trade."""
    silent = {"quote_volume": [0.0, 0, 5, 5, 0], "taker_buy_base": [0.0] * 5, "taker_buy_quote": [0.0] * 5}
    bars = minutes(open=[20.0, 20, 10, 11, 12], high=[20.0, 20, 11, 13, 12], low=[20.0, 20, 9, 11, 12],
                   close=[20.0, 20, 11, 12, 12], volume=[0.0, 0, 1, 1, 0], **silent)  # fmt: skip
    [found] = derive(bars, "1m", "5m").iter_rows(named=True)
    assert [found[name] for name in ("open", "high", "low", "close", "volume")] == [10, 13, 9, 12, 2]
    flat = minutes(open=[20.0] * 5, high=[20.0] * 5, low=[20.0] * 5, close=[20.0] * 5, volume=[0.0] * 5,
                   **silent | {"quote_volume": [0.0] * 5})  # fmt: skip
    [found] = derive(flat, "1m", "5m").iter_rows(named=True)
    assert [found[name] for name in ("open", "high", "low", "close", "volume")] == [20, 20, 20, 20, 0]


def test_which_intervals_divide_which() -> None:
    assert [name for name in INTERVAL_MS if divides("1m", name)] == list(INTERVAL_MS)[2:]
    assert divides("15m", "30m")
    assert not divides("15m", "15m")
    assert not divides("5m", "3m")
    assert not divides("2h", "3h" if "3h" in INTERVAL_MS else "1h")
    assert not divides("3d", "1w")


def served(url: str, symbol: str, interval: str, start: int, count: int) -> pl.DataFrame:
    query = f"symbol={symbol}&interval={interval}&startTime={start}&limit={count}"
    with urllib.request.urlopen(f"{url}/api/v3/klines?{query}") as answer:
        rows = json.load(answer)
    columns = zip(*(row[:11] for row in rows), strict=True)
    frame = pl.DataFrame(dict(zip(KLINE_COLUMNS, map(list, columns), strict=True)))
    return frame.cast({name: STORED_SCHEMA[name] for name in KLINE_COLUMNS}).select(
        pl.lit(symbol).alias("symbol"), *KLINE_COLUMNS
    )


@pytest.mark.parametrize("interval", ["3m", "5m", "15m", "1h"])
def test_the_built_in_exchange_gives_bit_for_bit_what_follows_from_its_minutes(
    exchange: RunningExchange, interval: str
) -> None:
    length = INTERVAL_MS[interval]
    start = NOW // 3_600_000 * 3_600_000 - 3_600_000 * 16
    for symbol in exchange.info()["symbols"]:
        fine = served(exchange.url, symbol, "1m", start, 960)
        wanted = served(exchange.url, symbol, interval, start, 960 * MINUTE // length)
        found = derive(fine, "1m", interval)
        assert found.height == wanted.height == 960 * MINUTE // length
        assert found.equals(wanted)


OHLCV = ("open_time", "open", "high", "low", "close", "volume")


def recorded(path: Path) -> pl.DataFrame:
    frame = pl.read_parquet(path, columns=list(OHLCV)).sort("open_time")
    missing = [name for name in STORED_SCHEMA if name not in (*OHLCV, "symbol")]
    return frame.select(
        pl.lit("X").alias("symbol"),
        *OHLCV,
        *(pl.lit(None, STORED_SCHEMA[name]).alias(name) for name in missing),
    ).select(STORED_SCHEMA.names())


def compared(fine: pl.DataFrame, finer: str, coarse: pl.DataFrame, interval: str) -> tuple[int, list[int]]:
    """Return how many bars can be compared, and the open times of those that differ."""
    both = derive(fine, finer, interval).join(coarse, on="open_time", suffix="_recorded")
    differs = pl.any_horizontal(pl.col(name) != pl.col(f"{name}_recorded") for name in OHLCV[1:])
    return both.height, both.filter(differs)["open_time"].to_list()


def test_real_five_minute_bars_follow_from_real_minutes(shared_data: Path) -> None:
    folder = shared_data / "klines" / "small_with_gaps"
    fine, coarse = recorded(folder / "XRP_ETH_1m.parquet"), recorded(folder / "XRP_ETH_5m.parquet")
    assert compared(fine, "1m", coarse, "5m") == (151, [])


def test_the_open_of_a_real_bar_is_its_first_trade_s_and_not_the_close_before(shared_data: Path) -> None:
    """This recording leaves out minutes without a trade: put back, they change nothing but the volume's parts."""
    folder = shared_data / "klines" / "small_with_gaps"
    fine, coarse = recorded(folder / "XRP_ETH_1m.parquet"), recorded(folder / "XRP_ETH_5m.parquet")
    start, end = fine["open_time"][0], fine["open_time"][-1]
    grid = pl.DataFrame({"open_time": np.arange(start, end + 1, MINUTE)})
    carried = pl.col("close").forward_fill()
    whole = grid.join(fine, on="open_time", how="left").with_columns(
        pl.lit("X").alias("symbol"), carried, pl.col("volume").fill_null(0.0),
        *(pl.col(name).fill_null(carried) for name in ("open", "high", "low")),
    ).select(STORED_SCHEMA.names())  # fmt: skip
    count, differing = compared(whole, "1m", coarse, "5m")
    assert count == coarse.filter(pl.col("open_time") + 5 * MINUTE <= end + MINUTE).height
    assert count > 600
    assert differing == []
    silent_first = whole.filter((pl.col("open_time") % 300_000 == 0) & (pl.col("volume") == 0))
    opens = coarse.join(silent_first, on="open_time", suffix="_carried")
    assert (opens["open"] != opens["open_carried"]).sum() > 100, (
        "taking the close before would have been wrong"
    )


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT"])
def test_a_year_of_real_half_hours_follows_from_real_quarters(shared_data: Path, symbol: str) -> None:
    """All but two moments, at which the longer bars were recorded while they were still open."""
    folder = shared_data / "klines" / "binance_um_recent"
    fine = recorded(folder / f"{symbol}_15m.parquet")
    coarse = recorded(folder / f"{symbol}_30m.parquet")
    count, differing = compared(fine, "15m", coarse, "30m")
    assert count == 17_519
    assert set(differing) <= {1_730_147_400_000, 1_730_149_200_000}
