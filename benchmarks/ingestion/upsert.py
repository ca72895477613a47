"""One sweep into the store, durable: every symbol's last bar closes and its next one opens.

Both rows of a symbol go through `KlineStore.write`: the one that closes replaces what the sweep before had of it, the
one that opens is new. `..._ms_p50` is the call with all its checks; `..._trusted_ms_p50` leaves out the validation of
the frame, which an ingest has just done. Beside it, what a loop over symbols does: a connection per symbol and a
transaction per row, on a table that holds nothing else, with the same durability.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import psycopg

from benchmarks.ingestion.hot_stores import INTERVAL, HotStores, still_open
from benchmarks.ingestion.measure import Figures, middle, percentile, scratch_folder
from market.klines import STORED_COLUMNS
from market.store import KlineStore


@dataclass(frozen=True)
class Sizes:
    """How many sweeps are timed, and how often the row-at-a-time way is."""

    sweeps: int = 200
    rival_sweeps: int = 2


FULL, QUICK = Sizes(), Sizes(sweeps=40, rival_sweeps=1)


def run(sizes: Sizes, scratch: Path, hot: HotStores) -> Figures:
    """Time sweeps on one database, then on the other: their writes would wait for the same disk."""
    times: dict[str, list[float]] = {}
    for kind, store in hot.stores.items():
        sweeps = _sweeps(hot, kind)
        for number in range(2 * sizes.sweeps):
            trusted = number % 2 == 1
            took = _timed_write(store, next(sweeps), trusted=trusted)
            times.setdefault(f"{kind}_trusted" if trusted else kind, []).append(took)
    figures: Figures = {"upsert_rows": 2 * len(hot.symbols), "upsert_hot_bars": len(hot.symbols) * hot.bars}
    for name, values in times.items():
        figures[f"upsert_{name}_ms_p50"] = percentile(values, 50)
        figures[f"upsert_{name}_ms_p99"] = percentile(values, 99)
    for kind, took in _row_at_a_time(sizes, hot, scratch).items():
        figures[f"upsert_{kind}_row_at_a_time_ms"] = took
        figures[f"upsert_{kind}_ratio_row_at_a_time"] = took / figures[f"upsert_{kind}_ms_p50"]
    return figures


def _sweeps(hot: HotStores, kind: str) -> Iterator[pl.DataFrame]:
    """Yield one sweep's rows after another, by symbol and open time."""
    maker = hot.makers[kind]
    before = maker.next(1)
    hot.stores[kind].write(INTERVAL, still_open(before))
    while True:
        opens = maker.next(1)
        yield pl.concat([before, still_open(opens)]).sort("symbol", "open_time")
        before = opens


def _timed_write(store: KlineStore, rows: pl.DataFrame, *, trusted: bool) -> float:
    started = time.perf_counter()
    result = store.write(INTERVAL, rows, trusted=trusted)
    took = (time.perf_counter() - started) * 1e3
    if (result.rows_inserted, result.rows_updated) != (rows.height // 2, rows.height // 2):
        raise SystemExit(f"a sweep of {rows.height} rows was stored as {result}")
    return took


_TABLE = (
    "CREATE TABLE {name} (symbol text, open_time bigint, open float8, high float8, low float8, close float8,"
    " volume float8, close_time bigint, quote_volume float8, trades bigint, taker_buy_base float8,"
    " taker_buy_quote float8, PRIMARY KEY (symbol, open_time))"
)


def _row_at_a_time(sizes: Sizes, hot: HotStores, scratch: Path) -> dict[str, float]:
    parts = next(_sweeps(hot, "sqlite")).select(STORED_COLUMNS).partition_by("symbol")
    rows = [part.rows() for part in parts]
    with scratch_folder(scratch, "rows") as folder:
        ways: dict[str, _SqliteRows | _PostgresRows] = {
            "sqlite": _SqliteRows(folder / "rows.sqlite3"),
            "postgres": _PostgresRows(hot.postgres_url),
        }
        return {
            kind: middle([_loop(way, rows) for _ in range(sizes.rival_sweeps)]) for kind, way in ways.items()
        }


def _loop(way: _SqliteRows | _PostgresRows, symbols: list[list[tuple[Any, ...]]]) -> float:
    started = time.perf_counter()
    for rows in symbols:
        with contextlib.closing(way.connect()) as connection:
            for row in rows:
                connection.execute(way.statement, row)
    return (time.perf_counter() - started) * 1e3


def _upsert(name: str, mark: str) -> str:
    values = ", ".join(f"{column} = excluded.{column}" for column in STORED_COLUMNS[2:])
    marks = ", ".join([mark] * len(STORED_COLUMNS))
    columns = ", ".join(STORED_COLUMNS)
    return f"INSERT INTO {name} ({columns}) VALUES ({marks}) ON CONFLICT (symbol, open_time) DO UPDATE SET {values}"  # noqa: S608


class _SqliteRows:
    """Connections that make every statement durable by itself."""

    statement = _upsert("bars", "?")

    def __init__(self, path: Path) -> None:
        self._path = path
        with contextlib.closing(self.connect()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_TABLE.format(name="bars"))

    def connect(self) -> sqlite3.Connection:
        """Open the database anew."""
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        return connection


class _PostgresRows:
    """Connections that commit every statement by itself."""

    statement = _upsert("rows_one_by_one", "%s")

    def __init__(self, url: str) -> None:
        self._url = url
        with contextlib.closing(self.connect()) as connection:
            connection.execute("DROP TABLE IF EXISTS rows_one_by_one")
            connection.execute(_TABLE.format(name="rows_one_by_one"))

    def connect(self) -> psycopg.Connection:
        """Connect anew."""
        return psycopg.connect(self._url, autocommit=True)
