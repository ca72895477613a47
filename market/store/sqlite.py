"""The store in SQLite: WAL mode, one writer at a time, readers never wait."""

# ruff: noqa: D102, S608 - `Database` and `Transaction` tell what methods do; SQL holds only names of ours
from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final

import numpy as np

from market.errors import MarketError
from market.intervals import interval_ms
from market.store.bars import BAR, Bars
from market.store.database import Database, Pool, Row, Transaction
from market.store.schema import INDEXES, TABLES, Table

# The bar's bytes as one value: SQLite hands over one object a row, not eleven, which makes reading 3-4 times
# as fast.
_BARS_DDL: Final = """CREATE TABLE IF NOT EXISTS klines_hot (
  kline_interval TEXT NOT NULL,
  open_time INTEGER NOT NULL,
  symbol_id INTEGER NOT NULL,
  bar BLOB NOT NULL,
  PRIMARY KEY (kline_interval, open_time, symbol_id)
) WITHOUT ROWID"""
_TOGETHER: Final = 100


def _put_bars_sql(rows: int) -> str:
    return (
        f"INSERT INTO klines_hot VALUES {', '.join(['(?, ?, ?, ?)'] * rows)}"
        " ON CONFLICT (kline_interval, open_time, symbol_id)"
        " DO UPDATE SET bar = excluded.bar WHERE bar <> excluded.bar"
    )


_PUT_BAR: Final = _put_bars_sql(1)
_PUT_BARS: Final = _put_bars_sql(_TOGETHER)
# The key leads by time: of one symbol among hundreds, each bar is looked up rather than all of them passed over.
# CROSS JOIN is not reordered, and no range of times stands beside it: some versions of SQLite would else go through
# all bars at each time, or through all times for each bar.
_LOOKUPS: Final = (
    "SELECT bar FROM (WITH RECURSIVE grid (at) AS (SELECT ? UNION ALL SELECT at + ? FROM grid WHERE at < ?)"
    " SELECT at FROM grid) CROSS JOIN klines_hot ON open_time = at WHERE kline_interval = ?"
)
_FEW_SYMBOLS: Final = 4
_MANY_TIMES: Final = 200_000
_RANGE: Final = "kline_interval = ? AND open_time >= ? AND open_time < ?"


class SqliteTransaction:
    """A transaction on one SQLite connection (see `Transaction`)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._connection.execute(sql, parameters)

    def has_table(self, name: str) -> bool:
        return bool(self.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)))

    def upsert(self, table: Table, rows: Sequence[Row], *, rewrite: bool = True) -> int:
        marks = ", ".join("?" * len(table.columns))
        action = "NOTHING"
        if rewrite and table.rewritten:
            changes = ", ".join(f"{name} = excluded.{name}" for name in table.rewritten)
            differs = " OR ".join(f"{table.name}.{name} IS NOT excluded.{name}" for name in table.rewritten)
            action = f"UPDATE SET {changes} WHERE {differs}"
        sql = f"INSERT INTO {table.name} VALUES ({marks}) ON CONFLICT ({', '.join(table.key)}) DO {action}"
        return self._connection.executemany(sql, rows).rowcount if rows else 0

    def delete(self, table: Table, keys: Sequence[Row]) -> None:
        where = " AND ".join(f"{name} = ?" for name in table.key)
        self._connection.executemany(f"DELETE FROM {table.name} WHERE {where}", keys)

    def read_bars(self, interval: str, start: int, end: int, symbol_ids: Sequence[int] | None = None) -> Bars:
        sql = f"SELECT bar FROM klines_hot WHERE {_RANGE}"
        parameters: tuple[object, ...] = (interval, start, end)
        if symbol_ids is not None:
            if len(symbol_ids) <= _FEW_SYMBOLS and (grid := self._grid(interval, start, end)):
                sql, parameters = _LOOKUPS, (*grid, interval)
            sql += f" AND symbol_id IN ({', '.join(str(int(i)) for i in symbol_ids)})"
        rows = self._connection.execute(sql, parameters)
        return np.frombuffer(b"".join(chain.from_iterable(rows)), BAR)

    def _grid(self, interval: str, start: int, end: int) -> tuple[int, int, int] | None:
        """Return the first open time, the step and the last one to look up; None where a scan is better."""
        [(first, last)] = self._connection.execute(
            "SELECT (SELECT min(open_time) FROM klines_hot WHERE kline_interval = ?1 AND open_time >= ?2),"
            " (SELECT max(open_time) FROM klines_hot WHERE kline_interval = ?1 AND open_time < ?3)",
            (interval, start, end),
        )
        step = interval_ms(interval)
        if first is None or last is None or not 0 <= (last - first) // step <= _MANY_TIMES:
            return None
        return first, step, last

    def put_bars(self, interval: str, bars: Bars) -> None:
        if not len(bars):
            return
        raw, size = bars.tobytes(), BAR.itemsize
        blobs = [raw[at : at + size] for at in range(0, len(raw), size)]
        rows = list(zip(repeat(interval), bars["open_time"].tolist(), bars["symbol_id"].tolist(), blobs))
        whole = len(rows) - len(rows) % _TOGETHER
        together = (rows[at : at + _TOGETHER] for at in range(0, whole, _TOGETHER))
        self._connection.executemany(_PUT_BARS, (list(chain.from_iterable(group)) for group in together))
        self._connection.executemany(_PUT_BAR, rows[whole:])

    def delete_bars(self, interval: str, start: int, end: int) -> int:
        return self._connection.execute(
            f"DELETE FROM klines_hot WHERE {_RANGE}", (interval, start, end)
        ).rowcount


class SqliteDatabase(Database):
    """One SQLite file.

    Writers of all processes queue at a lock file before they begin. They then never find the database busy,
    and no checkpoint runs beside another writer's commit, which is what SQLite before 3.51.3 needs for its
    WAL-reset bug (https://sqlite.org/wal.html#walresetbug).

    Parameters
    ----------
    file : Path
        The database file; it must lie on a local disk.
    busy_ms : int
        How long a writer waits for others before it gives up.
    """

    def __init__(self, file: Path, *, busy_ms: int = 60_000) -> None:
        self.where = str(file)
        self._file, self._busy_ms = file, busy_ms
        self._pool = Pool(self._connect, self._disconnect, self.where)

    @property
    def ddl(self) -> Iterable[str]:
        return (_BARS_DDL, *(table.ddl(" WITHOUT ROWID") for table in TABLES), *INDEXES)

    def create(self, statements: Iterable[str]) -> None:
        with self.write() as transaction:
            for statement in statements:
                transaction.execute(statement)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with self._explained():
            connection = self._pool.take()
            try:
                with self._transaction(connection, "BEGIN"):
                    yield SqliteTransaction(connection)
            finally:
                self._pool.give_back(connection)

    @contextmanager
    def write(self, *locks: str) -> Iterator[Transaction]:
        with self._explained():
            connection = self._pool.take()
            try:
                with self._sole_writer(), self._transaction(connection, "BEGIN IMMEDIATE"):
                    yield SqliteTransaction(connection)
            finally:
                self._pool.give_back(connection)

    def close(self) -> None:
        with self._explained(), self._sole_writer():  # the last connection to go runs a checkpoint
            self._pool.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=self._busy_ms / 1_000, isolation_level=None, check_same_thread=False
        )
        try:
            self._set_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -65536")
            connection.execute("PRAGMA wal_autocheckpoint = 4000")
            connection.execute("PRAGMA journal_size_limit = 67108864")
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_wal(self, connection: sqlite3.Connection) -> None:
        """Switch to WAL; SQLite does not wait for other processes that do the same, so this does."""
        deadline = time.monotonic() + self._busy_ms / 1_000
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @staticmethod
    def _disconnect(connection: sqlite3.Connection) -> None:
        connection.close()

    @staticmethod
    @contextmanager
    def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
        connection.execute(begin)
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _sole_writer(self) -> Iterator[None]:
        """Hold the lock file of the writers.

        Who waits for it holds another one, that of the next in line: a process that writes again and again cannot
        push in before those that wait.
        """
        next_in_line = self._lock("-writer-next")
        try:
            writer = self._lock("-writer")
        finally:
            os.close(next_in_line)
        try:
            yield
        finally:
            os.close(writer)

    def _lock(self, suffix: str) -> int:
        """Return the descriptor of a lock file that this call has locked; the kernel frees it with the process."""
        file = self._file.with_name(self._file.name + suffix)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._wait_for(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _wait_for(self, descriptor: int) -> None:
        deadline, pause = time.monotonic() + self._busy_ms / 1_000, 0.0002
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise MarketError(
                        f"another process has been writing for {self._busy_ms / 1_000:g} s",
                        where=self.where,
                        remedy="look for a stopped process that has the store open, end it, run this again",
                    ) from None
            time.sleep(pause)
            pause = min(pause * 2, 0.002)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(error, self.where) from error
        except OSError as error:
            raise MarketError(
                f"the store cannot be used: {error.strerror or error}",
                where=str(error.filename or self.where),
                remedy="make the folder writable, free disk space, run this again; nothing stored is lost",
            ) from error


_REMEDIES: Final = {
    "SQLITE_FULL": "free disk space and run this again; nothing stored is lost",
    "SQLITE_IOERR": "look at disk space and the disk itself, run this again; nothing acknowledged is lost",
    "SQLITE_READONLY": "make the folder and the file writable for this user, then run this again",
    "SQLITE_CANTOPEN": "make the folder exist and be writable for this user, then run this again",
    "SQLITE_BUSY": "look for a process that holds the database open, end it and run this again",
    "SQLITE_NOTADB": "this file is no klinecast store: move it away, or set another home",
    "SQLITE_CORRUPT": "put back a copy of it, or ingest anew into another home; the Parquet files are whole",
}


def _explain(error: sqlite3.Error, where: str) -> MarketError:
    name = getattr(error, "sqlite_errorname", "") or ""
    remedy = next((text for code, text in _REMEDIES.items() if name.startswith(code)), None)
    return MarketError(
        f"the store's database failed: {error}" + (f" ({name})" if name else ""),
        where=where,
        remedy=remedy
        or "report this with the message above; the transaction was undone, nothing stored is lost",
    )
