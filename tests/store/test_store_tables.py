"""Predictions, flags, quarantine, universe, and the analysts' DuckDB connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market.errors import MarketError
from market.klines import validate
from market.store import FLAG_SCHEMA, GAP_SCHEMA, PREDICTION_SCHEMA, KlineStore, WriteResult

MakeBars = Callable[..., pl.DataFrame]
T0, MINUTE, DAY = 1_700_006_400_000, 60_000, 86_400_000


def _predictions(symbols: list[str], at: int = T0, p_up: float = 0.3, created: int = 5) -> pl.DataFrame:
    rows = [(s, "5m", at, 6, 0.2, 0.5, p_up, -0.01, 0.0, 0.01, "v1", created, 0.02) for s in symbols]
    return pl.DataFrame(rows, schema=PREDICTION_SCHEMA, orient="row")


def test_predictions_stay_as_they_were_first_made(store: KlineStore) -> None:
    frame = _predictions(["A", "B"])
    assert store.write_predictions(frame) == WriteResult(2, 0, 0)
    assert store.write_predictions(_predictions(["A", "C"], p_up=0.9, created=99)) == WriteResult(1, 0, 1)
    got = store.predictions("5m", ["A", "B"])
    assert_frame_equal(got, frame)
    store.write_predictions(_predictions(["A"], T0 + 5 * MINUTE))
    assert store.predictions(start=T0 + 1)["symbol"].to_list() == ["A"]
    assert store.predictions(end=T0 + 1).height == 3
    assert store.predictions("1m").is_empty() and store.predictions(model_version="v2").is_empty()


def test_a_prediction_may_do_without_the_volatility(store: KlineStore) -> None:
    store.write_predictions(_predictions(["A"]).drop("volatility"))
    store.write_predictions(_predictions(["B"]).with_columns(volatility=pl.lit(None)))
    assert store.predictions()["volatility"].to_list() == [None, None]


@pytest.mark.parametrize(
    "frame",
    [
        _predictions(["A", "A"]),
        _predictions(["A", "B"]).drop("q50"),
        _predictions(["A", "B"]).with_columns(q10=float("nan")),
        _predictions(["A", "B"]).with_columns(volatility=float("inf")),
        _predictions(["A", "B"]).with_columns(kline_interval=pl.lit("7m")),
        _predictions(["A", "B"]).with_columns(horizon=pl.lit(None, pl.Int64)),
    ],
)
def test_wrong_predictions_are_refused_whole(store: KlineStore, frame: pl.DataFrame) -> None:
    with pytest.raises(MarketError):
        store.write_predictions(frame)
    assert store.predictions().is_empty()


def test_flags_take_a_new_score_and_keep_their_first_time(store: KlineStore) -> None:
    rows = [("A", "5m", T0, "robust_z", 4.0, 1), ("A", "5m", T0, "forest", 0.9, 1)]
    frame = pl.DataFrame(rows, schema=FLAG_SCHEMA, orient="row")
    assert store.write_flags(frame) == WriteResult(2, 0, 0)
    again = frame.with_columns(created_at=9, score=pl.Series([5.0, 0.9]))
    assert store.write_flags(again) == WriteResult(0, 1, 1)
    assert store.flags(detector="robust_z").rows() == [("A", "5m", T0, "robust_z", 5.0, 1)]
    assert store.flags("5m", ["A"], T0, T0 + 1).height == 2 and store.flags(symbols=["B"]).is_empty()


def test_refused_rows_are_kept_once_with_reason_and_content(store: KlineStore, make_bars: MakeBars) -> None:
    bars = make_bars(["A"], count=4).with_columns(
        high=pl.when(pl.col("open_time") == T0).then(1.0).otherwise("high"),
        close=pl.when(pl.col("open_time") == T0 + MINUTE).then(float("nan")).otherwise("close"),
    )
    good, refused = validate(bars, "1m")
    assert (good.height, refused.height) == (2, 2)
    assert store.quarantine("1m", refused, "rest") == 2
    assert store.quarantine("1m", refused, "rest") == 0
    assert store.quarantine("1m", refused.head(1), "archive") == 1
    got = store.quarantined("1m").sort("open_time", "source")
    assert got["source"].to_list() == ["archive", "rest", "rest"] and got["symbol"].unique().to_list() == [
        "A"
    ]
    assert got["reason"].to_list() == ["high is below open, close or low"] * 2 + [
        "a price or amount is missing or not finite"
    ]
    raw = [json.loads(row) for row in got["raw"]]
    assert raw[0]["high"] == 1.0 and raw[2]["close"] == "nan" and raw[2]["open_time"] == T0 + MINUTE
    assert store.quarantined("5m").is_empty()
    with pytest.raises(MarketError, match="lacks reason"):
        store.quarantine("1m", bars, "rest")


def test_universe_keeps_order_columns_and_types(store: KlineStore) -> None:
    assert store.universe().is_empty() and store.universe().columns == ["symbol"]
    first = pl.DataFrame(
        {
            "symbol": ["ETHUSDT", "BTCUSDT"],
            "status": ["TRADING", None],
            "quote_volume_24h": [2.5, 1.0],
            "rank": [1, 2],
        }
    )
    store.write_universe(first)
    assert_frame_equal(store.universe(), first)
    store.write_universe(pl.DataFrame({"symbol": ["SOLUSDT"]}))
    assert store.universe().rows() == [("SOLUSDT",)]
    with pytest.raises(MarketError, match="twice"):
        store.write_universe(pl.DataFrame({"symbol": ["A", "A"]}))
    assert store.universe().rows() == [("SOLUSDT",)]


def test_duckdb_shows_hot_and_cold_and_all_tables(store: KlineStore, make_bars: MakeBars) -> None:
    minutes, hours = make_bars(["A", "B"], "1m", count=100), make_bars(["A"], "1h", count=40)
    store.write("1m", minutes)
    store.write("1h", hours)
    store.roll(T0 + DAY)
    store.write_predictions(_predictions(["A"]))
    store.write_flags(pl.DataFrame([("A", "5m", T0, "forest", 0.9, 1)], schema=FLAG_SCHEMA, orient="row"))
    store.record_gaps(
        "1m", pl.DataFrame([("B", T0 + DAY, T0 + 2 * DAY, "outage", 1)], schema=GAP_SCHEMA, orient="row")
    )
    store.quarantine("1m", pl.DataFrame({"symbol": ["A"], "reason": ["odd"]}), "test")
    store.write_universe(pl.DataFrame({"symbol": ["A", "B"]}))
    with store.connect_duckdb() as connection:
        counts = "SELECT kline_interval, symbol, count(*), sum(close) FROM klines GROUP BY ALL ORDER BY ALL"
        assert connection.execute(counts).fetchall() == [
            ("1h", "A", 40, pytest.approx(hours["close"].sum())),
            ("1m", "A", 100, pytest.approx(minutes.filter(symbol="A")["close"].sum())),
            ("1m", "B", 100, pytest.approx(minutes.filter(symbol="B")["close"].sum())),
        ]
        for table in ("predictions", "flags", "gaps", "quarantine"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchall() == [(1,)]
        assert connection.execute("SELECT symbol FROM universe").fetchall() == [("A",), ("B",)]
        with pytest.raises(duckdb.Error):
            connection.execute("DELETE FROM klines")
        with pytest.raises(duckdb.Error):
            connection.execute("INSERT INTO gaps SELECT * FROM gaps")
    assert store.scan("1h").collect().height == 40


def test_duckdb_on_an_empty_store(home: Path) -> None:
    with KlineStore.open(home) as store, store.connect_duckdb() as connection:
        for view in ("klines", "predictions", "flags", "gaps", "quarantine", "universe"):
            assert connection.execute(f"SELECT * FROM {view}").fetchall() == []


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO '{home}/klines.sqlite3'",
        "COPY (SELECT 1) TO '{home}/new.parquet'",
        "SELECT * FROM read_text('{home}/klines.sqlite3')",
        "ATTACH '{home}/other.duckdb'",
        "SET enable_external_access = true",
    ],
)
def test_a_query_reaches_no_file_but_those_of_the_views(store: KlineStore, home: Path, query: str) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    with store.connect_duckdb() as connection, pytest.raises(duckdb.Error):
        connection.execute(query.format(home=home))
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
