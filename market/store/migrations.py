"""Older stores are brought up to this version where they lie, in one transaction, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from market.errors import MarketError
from market.intervals import interval_ms
from market.store import coverage, manifest, spans
from market.store.bars import BAR, VALUE_COLUMNS, Bars
from market.store.database import Database, Transaction
from market.store.manifest import DAY_MS
from market.store.postgres import PostgresDatabase
from market.store.schema import FILE_SYMBOLS, GAPS, META, SCHEMA_VERSION
from market.store.spans import TIME_LIMIT, Int64s

_BARS_AT_ONCE: Final = 100_000


def migrate(database: Database) -> None:
    """Bring a store of an older schema version up to this one; killed at any point, nothing has changed.

    Raises
    ------
    MarketError
        If the version is none that this code knows how to start from.
    """
    with database.write("schema") as transaction:
        version = stored_version(transaction)
        while version < SCHEMA_VERSION:  # another process may have done it while this one waited
            if version not in _STEPS:
                raise MarketError(
                    f"the store has schema version {version}, which this code cannot bring up to"
                    f" {SCHEMA_VERSION}",
                    where=database.where,
                    remedy="open it once with each klinecast version in between; nothing was changed",
                )
            _STEPS[version](transaction, database)
            version += 1
        transaction.upsert(META, [("schema_version", str(version))])


def stored_version(transaction: Transaction) -> int:
    """Return the schema version as the database has it."""
    [(text,)] = transaction.execute("SELECT value FROM store_meta WHERE name = 'schema_version'")
    return int(text)


def _to_2(transaction: Transaction, database: Database) -> None:
    """Manifest by file and symbol; hot bars packed in PostgreSQL too; gaps know who was asked."""
    columns = isinstance(database, PostgresDatabase)  # its hot bars had a column for each value
    if columns:
        transaction.execute("ALTER TABLE klines_hot RENAME TO klines_hot_1")
    transaction.execute("ALTER TABLE files RENAME TO files_1")
    if "sources" in GAPS.columns:
        transaction.execute("ALTER TABLE gaps ADD COLUMN sources TEXT NOT NULL DEFAULT 'rest'")
    for statement in database.ddl:
        transaction.execute(statement)
    if columns:
        _pack_hot(transaction)
        transaction.execute("DROP TABLE klines_hot_1")
    transaction.execute(
        "INSERT INTO files (file_id, kline_interval, start_time, end_time, path, rows, bytes, sha256,"
        " schema_version, created_at)"
        " SELECT row_number() OVER (ORDER BY kline_interval, start_time), kline_interval, start_time, end_time,"
        " path, rows, bytes, sha256, schema_version, created_at FROM files_1"
    )
    transaction.execute("DROP TABLE files_1")
    for interval in coverage.intervals(transaction):
        _own_days(transaction, interval)


def _to_3(transaction: Transaction, database: Database) -> None:
    """Predictions may tell the volatility; those made before this do not. Gaps know when they were found."""
    transaction.execute("ALTER TABLE predictions ADD COLUMN volatility DOUBLE PRECISION")
    transaction.execute("ALTER TABLE gaps ADD COLUMN found_time BIGINT NOT NULL DEFAULT 0")


def _own_days(transaction: Transaction, interval: str) -> None:
    """Say which days each day file holds: of all symbols with bars in the day, though some may be hot yet."""
    files = {file.start_time: file.file_id for file in manifest.files(transaction, interval, 0, TIME_LIMIT)}
    rows = transaction.execute(
        "SELECT symbol_id, start_time, end_time FROM coverage WHERE kline_interval = ?"
        " ORDER BY symbol_id, start_time",
        (interval,),
    )
    covered = np.array(rows, np.int64).reshape(-1, 3)
    symbol_ids, days = _days(covered, interval_ms(interval))
    held = np.isin(days, np.array(list(files), np.int64))
    transaction.upsert(
        FILE_SYMBOLS,
        [
            (interval, symbol_id, day, day + DAY_MS, files[day])
            for symbol_id, day in zip(symbol_ids[held].tolist(), days[held].tolist(), strict=True)
        ],
    )


def _days(covered: Int64s, step: int) -> tuple[Int64s, Int64s]:
    """Return symbol number and start of each day in which a bar of these spans opens."""
    pieces = [np.empty(0, np.int64)]
    for symbol_id, start, end in covered.tolist():
        opened = np.arange(start, end, max(step, DAY_MS), dtype=np.int64)
        opened = np.concatenate((opened, [end - step]))
        pieces.append(spans.place(np.full(len(opened), symbol_id), opened - opened % DAY_MS))
    return spans.unplace(np.unique(np.concatenate(pieces)))


def _pack_hot(transaction: Transaction) -> None:
    """Turn the columns of hot bars into one value each."""
    columns = f"kline_interval, open_time, symbol_id, {', '.join(VALUE_COLUMNS)}"
    after: tuple[object, ...] = ("", 0, 0)
    while True:
        rows = transaction.execute(
            f"SELECT {columns} FROM klines_hot_1 WHERE (kline_interval, open_time, symbol_id) > (?, ?, ?)"  # noqa: S608
            f" ORDER BY kline_interval, open_time, symbol_id LIMIT {_BARS_AT_ONCE}",
            after,
        )
        if not rows:
            return
        after = rows[-1][:3]
        for interval in sorted({row[0] for row in rows}):
            bars: Bars = np.array([row[1:] for row in rows if row[0] == interval], BAR)
            transaction.put_bars(interval, bars)


_STEPS: Final[dict[int, Callable[[Transaction, Database], None]]] = {1: _to_2, 2: _to_3}
