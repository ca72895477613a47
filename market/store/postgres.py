"""The store in PostgreSQL: bars go in and out in the binary COPY format, which numpy lays out whole."""

# ruff: noqa: D102, S608 - `Database` and `Transaction` tell what methods do; SQL holds only names of ours
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.conninfo import conninfo_to_dict

from market.errors import MarketError
from market.store.bars import BAR, VALUE_COLUMNS, Bars
from market.store.database import Database, Pool, Row, Transaction
from market.store.schema import INDEXES, TABLES, Table

_Connection = psycopg.Connection[tuple[Any, ...]]

_SCHEMA: Final = "klinecast"
_LOCK_CLASS: Final = (
    0x6B6C  # advisory locks of the store, apart from those of other programs in the same database
)
_VALUES: Final = ", ".join(VALUE_COLUMNS)
_BARS_DDL: Final = f"""CREATE TABLE IF NOT EXISTS klines_hot (
  kline_interval TEXT NOT NULL,
  open_time BIGINT NOT NULL,
  symbol_id BIGINT NOT NULL,
  {", ".join(f"{name} DOUBLE PRECISION NOT NULL" for name in VALUE_COLUMNS)},
  PRIMARY KEY (kline_interval, open_time, symbol_id)
)"""
_STAGING_DDL: Final = f"""CREATE TEMP TABLE IF NOT EXISTS staged_bars (
  open_time BIGINT, symbol_id BIGINT, {", ".join(f"{name} DOUBLE PRECISION" for name in VALUE_COLUMNS)}
) ON COMMIT DELETE ROWS"""
_PUT_BARS: Final = f"""INSERT INTO klines_hot AS hot (kline_interval, open_time, symbol_id, {_VALUES})
SELECT %s, open_time, symbol_id, {_VALUES} FROM staged_bars
ON CONFLICT (kline_interval, open_time, symbol_id) DO UPDATE SET
  {", ".join(f"{name} = excluded.{name}" for name in VALUE_COLUMNS)}
WHERE ({", ".join(f"hot.{name}" for name in VALUE_COLUMNS)})
  IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in VALUE_COLUMNS)})"""
_COPY_OUT: Final = (
    f"COPY (SELECT open_time, symbol_id, {_VALUES} FROM klines_hot"
    " WHERE kline_interval = %s AND open_time >= %s AND open_time < %s{symbols}"
    " ORDER BY open_time, symbol_id) TO STDOUT (FORMAT BINARY)"
)

# https://www.postgresql.org/docs/current/sql-copy.html: a header, then for each row the number of fields, and
# for each field its length and its bytes, most significant first; at the end -1 as a number of fields.
_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER: Final = b"\xff\xff"
_WIRE_ROW: Final = np.dtype(
    [("fields", ">i2")]
    + [
        part
        for name in BAR.names or ()
        for part in ((f"{name}_size", ">i4"), (name, BAR[name].newbyteorder(">")))
    ]
)


def to_wire(bars: Bars) -> bytes:
    """Return bars as the bytes of a binary COPY."""
    wire = np.empty(len(bars), _WIRE_ROW)
    wire["fields"] = len(BAR.names or ())
    for name in BAR.names or ():
        wire[f"{name}_size"] = 8
        wire[name] = bars[name]
    return _COPY_HEADER + wire.tobytes() + _COPY_TRAILER


def from_wire(data: bytes) -> Bars:
    """Return the bars in the bytes of a binary COPY."""
    wire = np.frombuffer(data, _WIRE_ROW, (len(data) - len(_COPY_HEADER) - 2) // _WIRE_ROW.itemsize, 19)
    bars: NDArray[np.void] = np.empty(len(wire), BAR)
    for name in BAR.names or ():
        bars[name] = wire[name]
    return bars


class PostgresTransaction:
    """A transaction on one PostgreSQL connection (see `Transaction`)."""

    def __init__(self, connection: _Connection) -> None:
        self._cursor = connection.cursor()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        self._cursor.execute(sql.replace("?", "%s").encode(), parameters)
        return self._cursor.fetchall() if self._cursor.description else []

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
        arrays = ", ".join(f"%s::{kind}[]" for kind in table.columns.values())
        sql = (
            f"INSERT INTO {table.name} AS stored SELECT * FROM unnest({arrays})"
            f" ON CONFLICT ({', '.join(table.key)}) DO {action}"
        )
        self._cursor.execute(sql.encode(), [list(column) for column in zip(*rows, strict=True)])
        return self._cursor.rowcount

    def delete(self, table: Table, keys: Sequence[Row]) -> None:
        if not keys:
            return
        arrays = ", ".join(f"%s::{table.columns[name]}[]" for name in table.key)
        sql = f"DELETE FROM {table.name} WHERE ({', '.join(table.key)}) IN (SELECT * FROM unnest({arrays}))"
        self._cursor.execute(sql.encode(), [list(column) for column in zip(*keys, strict=True)])

    def read_bars(self, interval: str, start: int, end: int, symbol_ids: Sequence[int] | None = None) -> Bars:
        parameters: list[Any] = [interval, start, end]
        symbols = ""
        if symbol_ids is not None:
            symbols = " AND symbol_id = ANY (%s)"
            parameters.append([int(i) for i in symbol_ids])
        with self._cursor.copy(_COPY_OUT.format(symbols=symbols).encode(), parameters) as copy:
            return from_wire(b"".join(bytes(part) for part in copy))

    def put_bars(self, interval: str, bars: Bars) -> int:
        if not len(bars):
            return 0
        self._cursor.execute("TRUNCATE staged_bars")
        with self._cursor.copy("COPY staged_bars FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(to_wire(bars))
        self._cursor.execute(_PUT_BARS.encode(), (interval,))
        return self._cursor.rowcount

    def delete_bars(self, interval: str, start: int, end: int) -> int:
        self._cursor.execute(
            "DELETE FROM klines_hot WHERE kline_interval = %s AND open_time >= %s AND open_time < %s",
            (interval, start, end),
        )
        return self._cursor.rowcount


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
        plain, changed = re.subn(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
        if not changed:
            raise MarketError(
                f"database URL of an unknown kind: {url.split(':', 1)[0]}",
                where="database URL",
                remedy="give postgresql://user:password@host:port/database, or nothing for SQLite",
            )
        try:
            parts = conninfo_to_dict(plain)
        except psycopg.Error:  # its message quotes the URL, password and all
            raise MarketError(
                "database URL cannot be read",
                where="database URL",
                remedy="give postgresql://user:password@host:port/database, special characters as %XX",
            ) from None
        server = ":".join(str(parts[key]) for key in ("host", "port") if parts.get(key))
        self.where = f"postgresql://{server}/{parts.get('dbname', '')}"
        self._url, self._busy_ms = plain, busy_ms
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
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as connection:
            yield PostgresTransaction(connection)

    @contextmanager
    def write(self, *locks: str) -> Iterator[Transaction]:
        with self._transaction("BEGIN") as connection:
            for name in locks:
                connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK_CLASS, name))
            connection.execute(_STAGING_DDL.encode())
            yield PostgresTransaction(connection)

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[_Connection]:
        try:
            connection = self._pool.take()
            try:
                connection.execute(begin.encode())
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._undo(connection)
                raise
            self._pool.give_back(connection)
        except psycopg.Error as error:
            raise self._explain(error) from error

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
            self._url, autocommit=True, connect_timeout=10, application_name="klinecast"
        )
        connection.execute(f"SET search_path = {_SCHEMA}, pg_temp".encode())
        connection.execute("SET synchronous_commit = on")
        connection.execute("SET client_min_messages = warning")
        connection.execute(f"SET lock_timeout = {int(self._busy_ms)}".encode())
        return connection

    @staticmethod
    def _disconnect(connection: _Connection) -> None:
        connection.close()

    def _explain(self, error: psycopg.Error) -> MarketError:
        if isinstance(error, psycopg.errors.LockNotAvailable):
            what = f"another process has been writing for {self._busy_ms / 1_000:g} s"
            remedy = "look in pg_stat_activity for a session that holds its transaction open, and end it"
        elif isinstance(error, psycopg.OperationalError):
            what = f"the store's database failed: {str(error).strip()}"
            remedy = "see that the server runs, can be reached and has disk space, then run this again"
        else:
            what = f"the store's database refused: {str(error).strip()}"
            remedy = "report this with the message above; the transaction was undone, nothing stored is lost"
        return MarketError(what, where=self.where, remedy=remedy)
