"""The store's contract, over SQLite and over PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market.errors import MarketError
from market.klines import STORED_COLUMNS
from market.store import GAP_SCHEMA, KlineStore, WriteResult

MakeBars = Callable[..., pl.DataFrame]
T0, MINUTE, DAY = 1_700_006_400_000, 60_000, 86_400_000


def test_bars_come_back_to_the_bit(store: KlineStore, make_bars: MakeBars) -> None:
    bars = make_bars(["ETHUSDT", "BTCUSDT"], count=50)
    assert store.write("1m", bars.sample(fraction=1, shuffle=True, seed=1)) == WriteResult(100, 0, 0)
    assert_frame_equal(store.scan("1m").collect(), bars, check_exact=True)
    assert store.verify() == []


def test_unknown_values_of_a_thin_source_stay_null(store: KlineStore, make_bars: MakeBars) -> None:
    thin = make_bars(["BTCUSDT"]).with_columns(
        pl.lit(None).alias(name)
        for name in ("close_time", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote")
    )
    store.write("1m", thin)
    got = store.scan("1m").collect()
    assert got["close_time"].to_list() == [t + MINUTE - 1 for t in thin["open_time"]]
    assert (
        got.select("quote_volume", "trades", "taker_buy_base", "taker_buy_quote").null_count().row(0)
        == (10,) * 4
    )
    assert store.write("1m", thin) == WriteResult(0, 0, 10)
    store.roll(T0 + DAY)
    assert_frame_equal(store.scan("1m").collect(), got)


def test_a_write_counts_new_revised_and_known_rows(store: KlineStore, make_bars: MakeBars) -> None:
    bars = make_bars(["BTCUSDT"], count=10)
    store.write("1m", bars.head(6))
    revised = bars.with_columns(
        pl.when(pl.col("open_time") == T0).then(0.5).otherwise("volume").alias("volume")
    )
    revised = revised.with_columns(
        taker_buy_base=pl.min_horizontal("taker_buy_base", "volume"),
    )
    assert store.write("1m", revised) == WriteResult(4, 1, 5)
    assert store.scan("1m").collect()["volume"][0] == 0.5
    assert store.write("1m", revised) == WriteResult(0, 0, 10)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (pl.col("close").replace(pl.col("close").first(), float("nan")), "finite"),
        (pl.col("open_time") + 1, "grid"),
        (pl.col("close_time") + 1, "close_time"),
        (pl.col("volume") * -1, "negative"),
        (pl.lit(T0, pl.Int64).alias("open_time"), "close_time"),
        (pl.lit("").alias("symbol"), "no symbol"),
        (pl.col("high") - 5, "high is below"),
        (pl.lit("x").alias("close"), "type"),
    ],
)
def test_a_refused_write_stores_nothing(
    store: KlineStore, make_bars: MakeBars, spoil: pl.Expr, says: str
) -> None:
    store.write("1m", make_bars(["BTCUSDT"], count=3))
    with pytest.raises(MarketError, match=says) as caught:
        store.write("1m", make_bars(["BTCUSDT", "ETHUSDT"], count=20, seed=1).with_columns(spoil))
    assert caught.value.where and caught.value.remedy
    assert_frame_equal(store.scan("1m").collect(), make_bars(["BTCUSDT"], count=3))
    assert store.verify() == []


def test_wrong_requests_are_refused(store: KlineStore, make_bars: MakeBars) -> None:
    bars = make_bars(["BTCUSDT"])
    with pytest.raises(MarketError, match="1M"):
        store.write("1M", bars)
    with pytest.raises(MarketError, match="unknown"):
        store.panel("7m", ["BTCUSDT"])
    with pytest.raises(MarketError, match="lacks volume"):
        store.write("1m", bars.drop("volume"))
    with pytest.raises(MarketError, match="lacks symbol"):
        store.write("1m", bars.drop("symbol"))
    with pytest.raises(MarketError, match="duplicate"):
        store.write("1m", pl.concat([bars, bars]))
    with pytest.raises(MarketError, match="contradicts"):
        store.write("1m", pl.concat([bars, make_bars(["BTCUSDT"], seed=1)]))
    micro = bars.with_columns(open_time=pl.col("open_time") * 1000, close_time=None)
    with pytest.raises(MarketError, match="2248"):
        store.write("1m", micro)
    with pytest.raises(MarketError, match="no column 'clsoe'"):
        store.scan("1m", columns=["clsoe"])
    with pytest.raises(MarketError, match="twice"):
        store.panel("1m", ["BTCUSDT", "BTCUSDT"])
    with pytest.raises(MarketError, match="bars"):
        store.panel("1m", ["BTCUSDT"], start=T0, bars=5)
    assert store.spans().is_empty()


def test_scan_cuts_by_symbol_time_and_column(store: KlineStore, make_bars: MakeBars) -> None:
    bars = make_bars(["A", "B", "C", "D", "E", "F"], "1h", count=72)
    store.write("1h", bars)
    for rolled in (False, True):
        if rolled:
            assert store.roll(T0 + 2 * DAY).rows == 6 * 48
        start, end = T0 + DAY - 3 * 3_600_000, T0 + 2 * DAY + 5 * 3_600_000
        got = store.scan("1h", ["E", "B", "nowhere"], start, end, ["symbol", "close", "open_time"]).collect()
        want = bars.filter(
            pl.col("symbol").is_in(["B", "E"]), pl.col("open_time").is_between(start, end, closed="left")
        ).select("symbol", "close", "open_time")
        assert_frame_equal(got, want, check_exact=True)
        assert store.scan("1h", []).collect().is_empty()
        assert store.scan("5m").collect().columns == list(STORED_COLUMNS)


def test_panel_is_dense_complete_and_nan_where_nothing_is(store: KlineStore, make_bars: MakeBars) -> None:
    bars = make_bars(["A", "B"], count=20).filter(
        ~((pl.col("symbol") == "A") & (pl.col("open_time") == T0 + 3 * MINUTE)),
        pl.col("open_time") != T0 + 5 * MINUTE,
    )
    store.write("1m", bars)
    for rolled in (False, True):
        if rolled:
            store.roll(T0 + DAY)
        panel = store.panel("1m", ["B", "ghost", "A"])
        assert panel.symbols == ("B", "ghost", "A") and panel.interval == "1m"
        assert panel.open_time.tolist() == [T0 + i * MINUTE for i in range(20)]
        close = panel.columns["close"]
        assert close.shape == (20, 3) and close.dtype == np.float64 and close.flags.c_contiguous
        assert np.isnan(close[:, 1]).all()
        assert np.flatnonzero(np.isnan(close[:, 0])).tolist() == [5]
        assert np.flatnonzero(np.isnan(close[:, 2])).tolist() == [3, 5]
        for name in ("open", "volume", "trades", "taker_buy_base"):
            for at, symbol in ((0, "B"), (2, "A")):
                want = bars.filter(symbol=symbol)[name].cast(pl.Float64).to_list()
                column = panel.columns[name][:, at]
                assert column[~np.isnan(column)].tolist() == want


def test_panel_of_the_last_bars_ends_with_the_last_closed_one(store: KlineStore, make_bars: MakeBars) -> None:
    assert store.panel("1m", ["A"], bars=5).open_time.shape == (0,)
    store.write("1m", make_bars(["A"], count=20))
    assert store.panel("1m", ["A"], bars=3).open_time.tolist() == [T0 + i * MINUTE for i in (17, 18, 19)]
    middle_of_bar_10 = T0 + 10 * MINUTE + 30_000
    panel = store.panel("1m", ["A"], bars=2, end=middle_of_bar_10, columns=["close"])
    assert panel.open_time.tolist() == [T0 + 8 * MINUTE, T0 + 9 * MINUTE] and list(panel.columns) == ["close"]
    late = store.panel("1m", ["A"], bars=3, end=T0 + 22 * MINUTE)
    assert np.isnan(late.columns["close"][:, 0]).tolist() == [False, True, True]
    ranged = store.panel("1m", ["A"], start=T0 + 1, end=T0 + 3 * MINUTE + 1)
    assert ranged.open_time.tolist() == [T0 + i * MINUTE for i in (1, 2, 3)]


def test_spans_and_missing(store: KlineStore, make_bars: MakeBars) -> None:
    bars = make_bars(["A", "B"], count=10).filter(
        ~((pl.col("symbol") == "A") & pl.col("open_time").is_in([T0, T0 + 4 * MINUTE, T0 + 5 * MINUTE]))
    )
    store.write("1m", bars)
    assert store.spans().rows() == [
        ("A", "1m", 7, T0 + MINUTE, T0 + 9 * MINUTE),
        ("B", "1m", 10, T0, T0 + 9 * MINUTE),
    ]
    assert store.spans("5m").is_empty()
    assert store.missing("A", "1m", T0, T0 + 12 * MINUTE) == [
        (T0, T0 + MINUTE),
        (T0 + 4 * MINUTE, T0 + 6 * MINUTE),
        (T0 + 10 * MINUTE, T0 + 12 * MINUTE),
    ]
    assert store.missing("A", "1m", T0 + 2 * MINUTE, T0 + 4 * MINUTE) == []
    assert store.missing("A", "1m", T0 + 5, T0 + 5) == []
    assert store.missing_many(["B", "new"], "1m", T0 + 1, T0 + 11 * MINUTE + 1) == {
        "B": [(T0 + 10 * MINUTE, T0 + 12 * MINUTE)],
        "new": [(T0 + MINUTE, T0 + 12 * MINUTE)],
    }
    assert store.missing("A", "5m", T0, T0 + 5 * MINUTE) == [(T0, T0 + 5 * MINUTE)]


def _gap(symbol: str, start: int, end: int, cause: str, checked: int = 1) -> pl.DataFrame:
    row = (symbol, T0 + start * MINUTE, T0 + end * MINUTE, cause, checked)
    return pl.DataFrame([row], schema=GAP_SCHEMA, orient="row")


def _ledger(store: KlineStore) -> list[tuple[object, ...]]:
    return [
        (symbol, (start - T0) // MINUTE, (end - T0) // MINUTE, cause, checked)
        for symbol, _, start, end, cause, checked, *_ in store.gaps("1m").rows()
    ]


def test_gaps_are_ledgered_replaced_and_healed(store: KlineStore, make_bars: MakeBars) -> None:
    store.write("1m", make_bars(["A"], count=3))
    store.record_gaps("1m", pl.concat([_gap("A", 0, 10, "outage"), _gap("B", 0, 4, "listing")]))
    assert _ledger(store) == [("A", 3, 10, "outage", 1), ("B", 0, 4, "listing", 1)]
    assert store.missing("A", "1m", T0, T0 + 12 * MINUTE) == [(T0 + 10 * MINUTE, T0 + 12 * MINUTE)]
    store.record_gaps("1m", _gap("A", 5, 7, "fetch failure", 9))
    assert _ledger(store)[:3] == [
        ("A", 3, 5, "outage", 1),
        ("A", 5, 7, "fetch failure", 9),
        ("A", 7, 10, "outage", 1),
    ]
    assert store.missing("A", "1m", T0, T0 + 10 * MINUTE, recheck_before=5) == [
        (T0 + 3 * MINUTE, T0 + 5 * MINUTE),
        (T0 + 7 * MINUTE, T0 + 10 * MINUTE),
    ]
    store.write("1m", make_bars(["A"], start=T0 + 4 * MINUTE, count=2))
    store.write("1m", make_bars(["A"], start=T0 + 8 * MINUTE, count=1))
    assert _ledger(store) == [
        ("A", 3, 4, "outage", 1),
        ("A", 6, 7, "fetch failure", 9),
        ("A", 7, 8, "outage", 1),
        ("A", 9, 10, "outage", 1),
        ("B", 0, 4, "listing", 1),
    ]
    store.write("1m", make_bars(["A", "B"], count=10))
    assert store.gaps().is_empty()
    overlapping = pl.concat([_gap("C", 0, 5, "first"), _gap("C", 3, 8, "second")])
    store.record_gaps("1m", overlapping)
    assert _ledger(store) == [("C", 0, 3, "first", 1), ("C", 3, 8, "second", 1)]
    assert store.gaps(symbols=["A"]).is_empty() and store.gaps("5m").is_empty()


def test_a_gap_remembers_when_it_was_found(store: KlineStore) -> None:
    store.record_gaps("1m", _gap("A", 0, 10, "outage", 5))
    store.record_gaps("1m", _gap("A", 0, 10, "outage", 8))
    store.record_gaps("1m", _gap("A", 2, 6, "outage", 9))
    store.record_gaps("1m", _gap("A", 8, 10, "refused", 9))
    kept = store.gaps("1m").select("start_time", "checked_time", "found_time").rows()
    assert [((start - T0) // MINUTE, checked, found) for start, checked, found in kept] == [
        (0, 8, 5),
        (2, 9, 5),
        (6, 8, 5),
        (8, 9, 9),
    ]


def test_unknown_intervals_and_names_that_are_no_text_are_refused(store: KlineStore) -> None:
    for look in (store.spans, store.gaps, store.derived):
        for interval in ("1M", "7m", ""):
            with pytest.raises(MarketError, match="use one of 1s 1m"):
                look(interval)
    for ask in (
        lambda: store.gaps("1m", ["A\udcff"]),
        lambda: store.missing("A\udcff", "1m", T0, T0 + MINUTE),
        lambda: store.scan("1m", ["A\udcff"]),
        lambda: store.record_gaps("1m", _gap("A", 0, 1, "outage")) or store.remove("1m", ["A\udcff"]),
    ):
        with pytest.raises(MarketError, match=r"'A\\udcff' is no symbol"):
            ask()
    with pytest.raises(MarketError, match="ends before it starts"):
        store.remove("1m", ["A"], T0 + MINUTE, T0)


@pytest.mark.parametrize(
    "frame",
    [
        _gap("A", 3, 3, "empty"),
        _gap("A", 0, 2, "off grid").with_columns(end_time=T0 + 1),
        _gap("A", 0, 2, "null").with_columns(cause=pl.lit(None, pl.String)),
        _gap("A", 0, 2, "short").drop("cause"),
        pl.concat([_gap("B", 0, 2, "good"), _gap("A", 3, 2, "backwards")]),
    ],
)
def test_wrong_gaps_are_refused_whole(store: KlineStore, frame: pl.DataFrame) -> None:
    with pytest.raises(MarketError, match="ledger"):
        store.record_gaps("1m", frame)
    assert store.gaps().is_empty()


def test_a_closed_store_says_so(home: Path, make_bars: MakeBars) -> None:
    store = KlineStore.open(home)
    store.close()
    with pytest.raises(MarketError, match="closed"):
        store.write("1m", make_bars(["A"]))


def test_what_was_written_is_there_for_the_next_process(
    home: Path, database_url: str | None, make_bars: MakeBars
) -> None:
    bars = make_bars(["A", "B"])
    with KlineStore.open(home, database_url) as first:
        first.write("1m", bars)
    driver = database_url and database_url.replace("postgresql://", "postgresql+psycopg2://")
    with KlineStore.open(home, driver) as second:
        assert_frame_equal(second.scan("1m").collect(), bars)
        assert second.write("1m", make_bars(["B", "C"])).rows_inserted == 10
