"""A scan gives bars by symbol and open_time, however they lie in files, and no more of them at once than is said."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from market.store import KlineStore, ordered_scan

MakeBars = Callable[..., pl.DataFrame]
T0, HOUR, DAY = 1_700_006_400_000, 3_600_000, 86_400_000
SYMBOLS = ["D", "B", "A", "C", "E"]


def _left_to_polars(lazy: pl.LazyFrame) -> bool:
    """Whether nothing but whole files is read, one after the other."""
    return "PYTHON" not in lazy.explain()


@pytest.fixture(params=[160 << 20, 300_000], ids=["at once", "in pieces"])
def bytes_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered_scan, "_BYTES_AT_ONCE", request.param)


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
    _check_lazy(store, bars)


def _check_lazy(store: KlineStore, bars: pl.DataFrame) -> None:
    """What Polars pushes into a scan is done there: columns, rows by a condition, the first rows."""
    high = pl.col("volume") > bars["volume"].median()
    for ask in (
        lambda lazy: lazy.select("close"),
        lambda lazy: lazy.filter(high).select("open_time", "close"),
        lambda lazy: lazy.head(7_001),
        lambda lazy: lazy.filter(high).head(3_000).select("symbol"),
        lambda lazy: lazy.head(9_000).filter(high).select("symbol", "open_time"),
        lambda lazy: lazy.slice(4_000, 5_000).select("open_time"),
        lambda lazy: lazy.group_by("symbol").agg(pl.col("close").max()).sort("symbol"),
    ):
        for engine in ("in-memory", "streaming"):
            got = ask(store.scan("1h")).collect(engine=engine)
            assert_frame_equal(got, ask(bars.lazy()).collect(), check_exact=True)


@pytest.mark.usefixtures("bytes_at_once")
def test_files_with_a_range_of_symbols_each_follow_each_other(store: KlineStore, bars: pl.DataFrame) -> None:
    for symbols in (["A", "B"], ["C"], ["D", "E"]):
        store.write("1h", bars.filter(pl.col("symbol").is_in(symbols)), bulk=True)
    assert _left_to_polars(store.scan("1h")) and _left_to_polars(store.scan("1h", ["B", "D"]))
    _check(store, bars)


@pytest.mark.usefixtures("bytes_at_once")
def test_files_that_follow_each_other_in_time_and_hot_bars_after_them(
    store: KlineStore, bars: pl.DataFrame
) -> None:
    for first in range(0, 150, 50):
        within = pl.col("open_time").is_between(T0 + first * DAY, T0 + (first + 50) * DAY, closed="left")
        store.write("1h", bars.filter(within), bulk=True)
    store.write("1h", bars.filter(pl.col("open_time") >= T0 + 150 * DAY))
    assert not _left_to_polars(store.scan("1h"))
    _check(store, bars)


@pytest.mark.usefixtures("bytes_at_once")
def test_symbols_that_lie_across_each_other(store: KlineStore, bars: pl.DataFrame) -> None:
    """B is in two files that interleave, and A has hot bars among its cold ones."""
    inner = pl.col("open_time").is_between(T0 + 20 * DAY, T0 + 60 * DAY, closed="left")
    same = bars.with_columns(volume=99.0)
    store.write("1h", pl.concat([same.filter(inner, symbol="B"), same.filter(symbol="D")]), bulk=True)
    store.write("1h", same, bulk=True)
    store.write("1h", bars.filter(pl.col("open_time") < T0 + DAY, symbol="A"))
    kept = (pl.col("symbol") == "A") & (pl.col("open_time") < T0 + DAY)
    want = bars.with_columns(volume=pl.when(kept).then("volume").otherwise(99.0))
    _check(store, want)


@pytest.mark.usefixtures("bytes_at_once")
def test_many_small_files(store: KlineStore, bars: pl.DataFrame) -> None:
    for day in range(20):
        store.write("1h", bars.filter(pl.col("open_time") < T0 + (day + 1) * DAY))
        store.roll(T0 + (day + 1) * DAY)
    store.write("1h", bars.filter(pl.col("open_time") >= T0 + 20 * DAY), bulk=True)
    _check(store, bars)


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 30), st.integers(1, 12)), max_size=6),
    st.booleans(),
)
def test_runs_of_any_kind_come_in_order(runs: list[tuple[str, int, int]], long: bool) -> None:
    """Stretches of symbols, in any order and across each other, against a sort of all."""
    rows = [(symbol, first + at) for symbol, first, length in runs for at in range(length)]
    frame = pl.DataFrame(rows, schema={"symbol": pl.String, "open_time": pl.Int64}, orient="row")
    frame = frame.with_row_index("at").unique(["symbol", "open_time"], maintain_order=True)
    if long:  # each bar becomes many
        steps = pl.int_ranges(0, ordered_scan.LONG_RUN).alias("step")
        frame = frame.with_columns(steps).explode("step")
        frame = frame.with_columns(pl.col("open_time") * ordered_scan.LONG_RUN + pl.col("step"))
    got = pl.concat([frame.clear(), *ordered_scan.in_order(frame)])
    assert_frame_equal(got, frame.sort("symbol", "open_time"))
