"""A scan gives bars by symbol and open_time, and sorts only what does not lie in that order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market.store import KlineStore, ordered_scan

MakeBars = Callable[..., pl.DataFrame]
T0, HOUR, DAY = 1_700_006_400_000, 3_600_000, 86_400_000
SYMBOLS = ["D", "B", "A", "C", "E"]


def _sorts(lazy: pl.LazyFrame) -> int:
    return lazy.explain().count("SORT BY")


@pytest.fixture
def bars(make_bars: MakeBars) -> pl.DataFrame:
    """200 days, 4,800 hourly bars a symbol; of E the last 2,400 only."""
    bars = make_bars(SYMBOLS, "1h", count=4_800)
    return bars.filter((pl.col("symbol") != "E") | (pl.col("open_time") >= T0 + 100 * DAY))


def _check(store: KlineStore, bars: pl.DataFrame) -> None:
    assert_frame_equal(store.scan("1h").collect(), bars, check_exact=True)
    assert_frame_equal(store.scan("1h").collect(engine="streaming"), bars, check_exact=True)
    start, end = T0 + 50 * DAY + 5 * HOUR, T0 + 190 * DAY + 1
    for symbols in (None, ["E", "B"], ["C"], ["unknown"], SYMBOLS):
        want = bars.filter(pl.col("open_time").is_between(start, end, closed="left"))
        if symbols is not None:
            want = want.filter(pl.col("symbol").is_in(symbols))
        got = store.scan("1h", symbols, start, end, ["close", "symbol", "open_time"]).collect()
        assert_frame_equal(got, want.select("close", "symbol", "open_time"), check_exact=True)


def test_files_with_a_range_of_symbols_each_follow_each_other(store: KlineStore, bars: pl.DataFrame) -> None:
    for symbols in (["A", "B"], ["C"], ["D", "E"]):
        store.write("1h", bars.filter(pl.col("symbol").is_in(symbols)), bulk=True)
    assert _sorts(store.scan("1h")) == 0
    _check(store, bars)


def test_files_that_follow_each_other_in_time_and_hot_bars_after_them(
    store: KlineStore, bars: pl.DataFrame
) -> None:
    for first in range(0, 150, 50):
        within = pl.col("open_time").is_between(T0 + first * DAY, T0 + (first + 50) * DAY, closed="left")
        store.write("1h", bars.filter(within), bulk=True)
    store.write("1h", bars.filter(pl.col("open_time") >= T0 + 150 * DAY))
    assert _sorts(store.scan("1h")) == 0
    _check(store, bars)


def test_only_symbols_that_lie_across_each_other_are_sorted(store: KlineStore, bars: pl.DataFrame) -> None:
    """B is in two files that interleave, and A has hot bars among its cold ones."""
    inner = pl.col("open_time").is_between(T0 + 20 * DAY, T0 + 60 * DAY, closed="left")
    same = bars.with_columns(volume=99.0)
    store.write("1h", pl.concat([same.filter(inner, symbol="B"), same.filter(symbol="D")]), bulk=True)
    store.write("1h", same, bulk=True)
    store.write("1h", bars.filter(pl.col("open_time") < T0 + DAY, symbol="A"))
    assert _sorts(store.scan("1h")) == 2 and _sorts(store.scan("1h", ["C", "D", "E"])) == 0
    kept = (pl.col("symbol") == "A") & (pl.col("open_time") < T0 + DAY)
    want = bars.with_columns(volume=pl.when(kept).then("volume").otherwise(99.0))
    _check(store, want)


def test_many_small_files_are_sorted_as_before(
    store: KlineStore, home: Path, bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("1h", bars.filter(pl.col("open_time") < T0 + 30 * DAY))
    store.roll(T0 + 20 * DAY)
    store.write("1h", bars.filter(pl.col("open_time") >= T0 + 30 * DAY), bulk=True)
    monkeypatch.setattr(ordered_scan, "_FEW_PIECES", 4)
    assert _sorts(store.scan("1h")) == 1
    _check(store, bars)
