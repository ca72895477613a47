"""A store as schema version 1 wrote it, from the statements that it used: nothing of today's code makes it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import psycopg
import pyarrow.parquet as pq

MINUTE, DAY = 60_000, 86_400_000
_VALUES = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "taker_buy_base",
    "taker_buy_quote",
)
_COLUMNS = {
    "store_meta": "name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name)",
    "symbols": "symbol_id BIGINT NOT NULL, symbol TEXT NOT NULL, PRIMARY KEY (symbol_id)",
    "coverage": "kline_interval TEXT NOT NULL, symbol_id BIGINT NOT NULL, start_time BIGINT NOT NULL,"
    " end_time BIGINT NOT NULL, PRIMARY KEY (kline_interval, symbol_id, start_time)",
    "gaps": "kline_interval TEXT NOT NULL, symbol_id BIGINT NOT NULL, start_time BIGINT NOT NULL,"
    " end_time BIGINT NOT NULL, cause TEXT NOT NULL, checked_time BIGINT NOT NULL,"
    " PRIMARY KEY (kline_interval, symbol_id, start_time)",
    "quarantine": "kline_interval TEXT NOT NULL, symbol TEXT NOT NULL, fingerprint TEXT NOT NULL,"
    " open_time BIGINT, reason TEXT NOT NULL, source TEXT NOT NULL, seen_time BIGINT NOT NULL,"
    " raw TEXT NOT NULL, PRIMARY KEY (kline_interval, symbol, fingerprint)",
    "universe": "position BIGINT NOT NULL, symbol TEXT NOT NULL, attributes TEXT NOT NULL,"
    " PRIMARY KEY (position)",
    "predictions": "kline_interval TEXT NOT NULL, open_time BIGINT NOT NULL, symbol TEXT NOT NULL,"
    " horizon BIGINT NOT NULL, model_version TEXT NOT NULL, p_down DOUBLE PRECISION NOT NULL,"
    " p_flat DOUBLE PRECISION NOT NULL, p_up DOUBLE PRECISION NOT NULL, q10 DOUBLE PRECISION NOT NULL,"
    " q50 DOUBLE PRECISION NOT NULL, q90 DOUBLE PRECISION NOT NULL, created_at BIGINT NOT NULL,"
    " PRIMARY KEY (kline_interval, open_time, symbol, horizon, model_version)",
    "flags": "kline_interval TEXT NOT NULL, open_time BIGINT NOT NULL, symbol TEXT NOT NULL,"
    " detector TEXT NOT NULL, score DOUBLE PRECISION NOT NULL, created_at BIGINT NOT NULL,"
    " PRIMARY KEY (kline_interval, open_time, symbol, detector)",
    "files": "kline_interval TEXT NOT NULL, start_time BIGINT NOT NULL, end_time BIGINT NOT NULL,"
    " path TEXT NOT NULL, rows BIGINT NOT NULL, bytes BIGINT NOT NULL, sha256 TEXT NOT NULL,"
    " schema_version BIGINT NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (kline_interval, start_time)",
    "retired_files": "path TEXT NOT NULL, retired_at BIGINT NOT NULL, PRIMARY KEY (path)",
    "day_versions": "kline_interval TEXT NOT NULL, start_time BIGINT NOT NULL, version BIGINT NOT NULL,"
    " PRIMARY KEY (kline_interval, start_time)",
}
_HOT = {
    "sqlite": "kline_interval TEXT NOT NULL, open_time INTEGER NOT NULL, symbol_id INTEGER NOT NULL,"
    " bar BLOB NOT NULL, PRIMARY KEY (kline_interval, open_time, symbol_id)",
    "postgres": "kline_interval TEXT NOT NULL, open_time BIGINT NOT NULL, symbol_id BIGINT NOT NULL, "
    + "".join(f"{name} DOUBLE PRECISION NOT NULL, " for name in _VALUES)
    + "PRIMARY KEY (kline_interval, open_time, symbol_id)",
}
_INDEXES = (
    "CREATE UNIQUE INDEX symbols_by_name ON symbols (symbol)",
    "CREATE INDEX gaps_by_end ON gaps (kline_interval, end_time)",
)


def write_home(home: Path, url: str | None, bars: pl.DataFrame, rolled_before: int) -> None:
    """Lay out a home with 1m bars of version 1: rows before a time in day files, the others hot.

    Bars of a symbol follow each other without a gap. Of each symbol the minute before its first bar stands in the
    gap ledger. One prediction is kept.
    """
    ids = {name: number for number, name in enumerate(bars["symbol"].unique(maintain_order=True))}
    cold, hot = (part for part in (bars.filter(pl.col("open_time") < rolled_before),
                                   bars.filter(pl.col("open_time") >= rolled_before)))  # fmt: skip
    spans = bars.group_by("symbol", maintain_order=True).agg(
        pl.col("open_time").min().alias("start"), (pl.col("open_time").max() + MINUTE).alias("end")
    )
    rows: dict[str, list[Sequence[object]]] = {
        "store_meta": [("schema_version", "1"), ("store_id", "0123456789abcdef0123456789abcdef")],
        "symbols": [(number, name) for name, number in ids.items()],
        "coverage": [("1m", ids[name], start, end) for name, start, end in spans.iter_rows()],
        "gaps": [
            ("1m", ids[name], start - MINUTE, start, "outage", 7) for name, start, _ in spans.iter_rows()
        ],
        "predictions": [("1m", 7, "A", 6, "v1", 0.2, 0.5, 0.3, -0.01, 0.0, 0.01, 8)],
        "files": [
            _day_file(home, day, rows) for (day,), rows in cold.group_by(pl.col("open_time") // DAY * DAY)
        ],
        "klines_hot": [_hot_row(row, ids, packed=url is None) for row in hot.iter_rows(named=True)],
    }
    (home / "klines" / "store.json").write_text(json.dumps({"store_id": rows["store_meta"][1][1]}) + "\n")
    if url is None:
        connection = sqlite3.connect(home / "klines.sqlite3", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        _fill(connection, rows, "?", "sqlite")
        connection.close()
        return
    with psycopg.connect(url) as server:
        server.execute("CREATE SCHEMA klinecast")
        server.execute("SET search_path = klinecast")
        _fill(server.cursor(), rows, "%s", "postgres")


def _fill(cursor: sqlite3.Connection | psycopg.Cursor, rows: dict[str, list[Sequence[object]]], mark: str,
          dialect: str) -> None:  # fmt: skip
    suffix = " WITHOUT ROWID" if dialect == "sqlite" else ""
    for name, columns in {**_COLUMNS, "klines_hot": _HOT[dialect]}.items():
        cursor.execute(f"CREATE TABLE {name} ({columns}){suffix}")  # type: ignore[arg-type]
    for statement in _INDEXES:
        cursor.execute(statement)
    for name, values in rows.items():
        if values:
            marks = ", ".join([mark] * len(values[0]))
            cursor.executemany(f"INSERT INTO {name} VALUES ({marks})", values)  # type: ignore[arg-type]


def _hot_row(row: dict[str, object], ids: dict[str, int], *, packed: bool) -> tuple[object, ...]:
    values = [float("nan") if row[name] is None else float(str(row[name])) for name in _VALUES]
    key = (row["open_time"], ids[str(row["symbol"])])
    if not packed:
        return ("1m", *key, *values)
    bar = np.array(key, "<i8").tobytes() + np.array(values, "<f8").tobytes()
    return ("1m", *key, bar)


def _day_file(home: Path, day: object, rows: pl.DataFrame) -> tuple[object, ...]:
    frame = rows.sort("symbol", "open_time").with_columns(kline_interval=pl.lit("1m"))
    frame = frame.select("symbol", "kline_interval", pl.exclude("symbol", "kline_interval"))
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    folder = home / "klines" / "1m"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table.replace_schema_metadata({"klinecast.schema_version": "1"}),
        staged := folder / "staged",
        row_group_size=50_000,
        compression="zstd",
        compression_level=3,
        use_dictionary=["symbol", "kline_interval"],
        column_encoding=dict.fromkeys(("open_time", "close_time", "trades"), "DELTA_BINARY_PACKED"),
    )
    content = staged.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    date = str(np.datetime64(int(str(day)), "ms").astype("datetime64[D]"))
    path = f"1m/{date}-{digest[:16]}.parquet"
    staged.rename(home / "klines" / path)
    start = int(str(day))
    return ("1m", start, start + DAY, path, frame.height, len(content), digest, 1, 1)
