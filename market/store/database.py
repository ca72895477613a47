"""What the store asks of a database: snapshots to read, durable transactions, and a few bulk calls."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

from market.errors import MarketError
from market.store.bars import Bars
from market.store.schema import Table

Row = tuple[Any, ...]
Connection = TypeVar("Connection")


class Transaction(Protocol):
    """One transaction on one connection. Statements use ``?`` for their parameters."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""
        ...

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement of which nothing is asked back; a later call may be the one to tell its failure."""
        ...

    def has_table(self, name: str) -> bool:
        """Tell whether the store has a table of this name."""
        ...

    def upsert(self, table: Table, rows: Sequence[Row], *, rewrite: bool = True) -> int:
        """Insert rows (values in column order); a stored key is rewritten or left as it is.

        Returns
        -------
        int
            How many rows were inserted or changed.
        """
        ...

    def delete(self, table: Table, keys: Sequence[Row]) -> None:
        """Delete the rows with these keys."""
        ...

    def read_bars(self, interval: str, start: int, end: int, symbol_ids: Sequence[int] | None = None) -> Bars:
        """Return the hot bars that open in [start, end), sorted by open_time and symbol number."""
        ...

    def put_bars(self, interval: str, bars: Bars) -> None:
        """Insert or replace hot bars."""
        ...

    def delete_bars(self, interval: str, start: int, end: int) -> int:
        """Delete the hot bars that open in [start, end); returns how many there were."""
        ...


class Database(ABC):
    """A database that holds one store."""

    where: str
    """Which database this is, for messages; holds no password."""

    @abstractmethod
    def create(self, statements: Iterable[str]) -> None:
        """Create what is absent; safe when several processes do so at once."""

    @abstractmethod
    def read(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that sees one state of all tables."""

    @abstractmethod
    def write(self, *locks: str) -> AbstractContextManager[Transaction]:
        """Open a transaction that excludes others with one of `locks`; durable when the block has ended."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    @property
    @abstractmethod
    def ddl(self) -> Iterable[str]:
        """Statements that create the tables in this database's dialect."""


class Pool(Generic[Connection]):
    """Idle connections of this process, handed to one thread at a time."""

    def __init__(
        self, connect: Callable[[], Connection], close: Callable[[Connection], None], where: str
    ) -> None:
        self._connect, self._close, self._where = connect, close, where
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._pid = os.getpid()
        self._closed = False

    def take(self) -> Connection:
        """Return a connection that no one else uses."""
        with self._lock:
            if self._closed:
                raise MarketError(
                    "the store is closed", where=self._where, remedy="open it again: KlineStore.open"
                )
            if self._pid != os.getpid():  # after a fork the parent's connections must not even be closed here
                _FORKED_AWAY.append(self._idle)
                self._idle, self._pid = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next caller."""
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        self._close(connection)

    def close(self) -> None:
        """Close idle connections; those in use are closed when they come back."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        if self._pid == os.getpid():
            for connection in idle:
                self._close(connection)


_FORKED_AWAY: list[object] = []
