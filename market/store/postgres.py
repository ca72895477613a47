"""The store in PostgreSQL: statements go in pipelines, bars as packed bytes in binary arrays."""

# ruff: noqa: D102, S608 - `Database` and `Transaction` tell what methods do; SQL holds only names of ours
from __future__ import annotations

import select
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import numpy as np
import psycopg

from market.store.bars import BAR, Bars, only
from market.store.database import Database, Pool, Row, Transaction
from market.store.postgres_arrays import BinaryArray, floats, integers, octets, register
from market.store.postgres_url import explain, read_url
from market.store.schema import INDEXES, TABLES, Table

_Connection = psycopg.Connection[tuple[Any, ...]]

_SCHEMA: Final = "klinecast"
_LOCK_CLASS: Final = (
    0x6B6C  # advisory locks of the store, apart from those of other programs in the same database
)
# The bar's bytes as one value, as in SQLite: PostgreSQL strings the bars of an open time together, so that 500
# symbols travel as one row.
_BARS_DDL: Final = """CREATE TABLE IF NOT EXISTS klines_hot (
  kline_interval TEXT NOT NULL,
  open_time BIGINT NOT NULL,
  symbol_id BIGINT NOT NULL,
  bar BYTEA NOT NULL,
  PRIMARY KEY (kline_interval, open_time, symbol_id)
)"""
_PUT_BARS: Final = (
    "INSERT INTO klines_hot AS hot (kline_interval, open_time, symbol_id, bar)"
    " SELECT %s, * FROM unnest(%b::bigint[], %b::bigint[], %b::bytea[])"
    " ON CONFLICT (kline_interval, open_time, symbol_id)"
    " DO UPDATE SET bar = excluded.bar WHERE hot.bar <> excluded.bar"
)
_PUT_TOGETHER: Final = 20_000
_WRITE: Final = "BEGIN"
_READ_BARS: Final = (
    "SELECT string_agg(bar, ''::bytea ORDER BY symbol_id) FROM klines_hot"
    " WHERE kline_interval = %s AND open_time >= %s AND open_time < %s{symbols}"
    " GROUP BY open_time ORDER BY open_time"
)
_IN_QUERY: Final = 64  # of more symbols, all bars of the span are read and the others left out here


class PostgresTransaction:
    """A transaction on one PostgreSQL connection in pipeline mode (see `Transaction`).

    A statement of which nothing is asked back is sent along with the next one that is, or with the COMMIT.
    """

    def __init__(self, connection: _Connection, pipeline: psycopg.Pipeline) -> None:
        self._connection, self._pipeline = connection, pipeline

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self.send(sql.replace("?", "%s"), parameters)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        cursor = self._ask(sql.replace("?", "%s"), parameters)
        return cursor.fetchall() if cursor.description else []

    def _ask(self, sql: str, parameters: Sequence[Any], *, binary: bool = False) -> psycopg.Cursor[Row]:
        cursor = self.send(sql, parameters, binary=binary)
        self._pipeline.sync()
        return cursor

    def send(self, sql: str, parameters: Sequence[Any] = (), *, binary: bool = False) -> psycopg.Cursor[Row]:
        """Send a statement; the cursor has its answer when the pipeline has been heard."""
        cursor = self._connection.execute(sql.encode(), parameters, binary=binary)
        # A pipeline of psycopg waits for answers though parts of a large statement may not have left yet.
        socket = self._connection.pgconn.socket
        while self._connection.pgconn.flush():
            readable, _, _ = select.select([socket], [socket], [])
            if readable:
                self._connection.pgconn.consume_input()
        return cursor

    def has_table(self, name: str) -> bool:
        return bool(self.execute("SELECT 1 WHERE to_regclass(?) IS NOT NULL", (f"{_SCHEMA}.{name}",)))

    def upsert(self, table: Table, rows: Sequence[Row], *, rewrite: bool = True) -> int:
        if not rows:
            return 0
        action = "NOTHING"
        if rewrite and table.rewritten:
            changes = ", ".join(f"{name} = excluded.{name}" for name in table.rewritten)
            differs = " OR ".join(
                f"stored.{name} IS DISTINCT FROM excluded.{name}" for name in table.rewritten
            )
            action = f"UPDATE SET {changes} WHERE {differs}"
        sql = (
            f"INSERT INTO {table.name} AS stored SELECT * FROM unnest({_marks(table.columns.values())})"
            f" ON CONFLICT ({', '.join(table.key)}) DO {action}"
        )
        return self._ask(sql, _arrays(table.columns.values(), rows)).rowcount

    def delete(self, table: Table, keys: Sequence[Row]) -> None:
        if not keys:
            return
        kinds = [table.columns[name] for name in table.key]
        sql = f"DELETE FROM {table.name} WHERE ({', '.join(table.key)}) IN (SELECT * FROM unnest({_marks(kinds)}))"
        self.send(sql, _arrays(kinds, keys))

    def read_bars(self, interval: str, start: int, end: int, symbol_ids: Sequence[int] | None = None) -> Bars:
        parameters: list[Any] = [interval, start, end]
        few = symbol_ids is not None and len(symbol_ids) <= _IN_QUERY
        if few:
            parameters.append([int(i) for i in symbol_ids or ()])
        sql = _READ_BARS.format(symbols=" AND symbol_id = ANY (%s)" if few else "")
        rows = self._ask(sql, parameters, binary=True).fetchall()
        bars: Bars = np.frombuffer(b"".join(chain.from_iterable(rows)), BAR)
        return bars if few or symbol_ids is None else only(bars, symbol_ids)

    def put_bars(self, interval: str, bars: Bars) -> None:
        for at in range(0, len(bars), _PUT_TOGETHER):
            part = bars[at : at + _PUT_TOGETHER]
            columns = (integers(part["open_time"]), integers(part["symbol_id"]), octets(part))
            self.send(_PUT_BARS, (interval, *columns))

    def delete_bars(self, interval: str, start: int, end: int) -> int:
        sql = "DELETE FROM klines_hot WHERE kline_interval = %s AND open_time >= %s AND open_time < %s"
        return self._ask(sql, (interval, start, end)).rowcount


def _marks(kinds: Iterable[str]) -> str:
    """Return placeholders for a column each, of these SQL types."""
    return ", ".join(f"%{'s' if kind == 'TEXT' else 'b'}::{kind}[]" for kind in kinds)


def _arrays(kinds: Iterable[str], rows: Sequence[Row]) -> list[Any]:
    return [_array(kind, column) for kind, column in zip(kinds, zip(*rows, strict=True), strict=True)]


def _array(kind: str, values: Sequence[Any]) -> BinaryArray | list[Any]:
    if kind == "TEXT" or None in values:
        return list(values)
    return integers(values) if kind == "BIGINT" else floats(values)


class PostgresDatabase(Database):
    """One PostgreSQL database; the tables lie in its schema `klinecast`.

    Parameters
    ----------
    url : str
        ``postgresql://...``; a driver in the scheme, as in ``postgresql+psycopg2://``, is ignored.
    busy_ms : int
        How long a writer waits for others before it gives up.
    """

    def __init__(self, url: str, *, busy_ms: int = 60_000) -> None:
        self._url, self._options, self.where = read_url(url)
        self._busy_ms = busy_ms
        self._pool = Pool(self._connect, self._disconnect, self.where)

    @property
    def ddl(self) -> Iterable[str]:
        return (_BARS_DDL, *(table.ddl("") for table in TABLES), *INDEXES)

    def create(self, statements: Iterable[str]) -> None:
        with self.write("schema") as transaction:
            known = transaction.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", (_SCHEMA,))
            if not known:  # IF NOT EXISTS would still ask for the right to create schemas
                transaction.execute(f"CREATE SCHEMA {_SCHEMA}")
            for statement in statements:
                transaction.execute(statement)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as transaction:
            yield transaction

    @contextmanager
    def write(self, *locks: str) -> Iterator[Transaction]:
        with self._transaction(_WRITE) as transaction:
            for name in locks:
                transaction.run(f"SELECT pg_advisory_xact_lock({_LOCK_CLASS}, hashtext(?))", (name,))
            yield transaction

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[PostgresTransaction]:
        committing = False
        try:
            connection = self._pool.take()
            try:
                with self._pipeline(connection) as transaction:
                    transaction.run(begin)
                    yield transaction
                    committing = begin == _WRITE
                    end = transaction.send("COMMIT")
                if end.statusmessage != "COMMIT":  # a transaction that failed answers COMMIT with ROLLBACK
                    raise psycopg.DatabaseError("the transaction was undone at its end")
            except BaseException:
                self._undo(connection)
                raise
            self._pool.give_back(connection)
        except psycopg.Error as error:
            raise explain(error, self.where, busy_ms=self._busy_ms, committing=committing) from error

    @staticmethod
    @contextmanager
    def _pipeline(connection: _Connection) -> Iterator[PostgresTransaction]:
        """Send and hear all of a block; psycopg alone would log a lost connection beside raising it."""
        failure: BaseException | None = None
        try:
            with connection.pipeline() as pipeline:
                try:
                    yield PostgresTransaction(connection, pipeline)
                except BaseException as error:
                    failure = error
        except psycopg.Error:
            if failure is None:
                raise
        if failure is not None:
            raise failure

    def _undo(self, connection: _Connection) -> None:
        """Roll back, and keep the connection only if that worked."""
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()
        else:
            self._pool.give_back(connection)

    def _connect(self) -> _Connection:
        connection: _Connection = psycopg.connect(
            self._url, autocommit=True, application_name="klinecast", **self._options
        )
        register(connection)
        with connection.pipeline():
            for setting in (
                f"search_path = {_SCHEMA}, pg_temp",
                "synchronous_commit = on",
                "client_min_messages = warning",
                f"lock_timeout = {int(self._busy_ms)}",
            ):
                connection.execute(f"SET {setting}".encode())
        return connection

    @staticmethod
    def _disconnect(connection: _Connection) -> None:
        connection.close()
