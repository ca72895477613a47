"""`KlineStore`: the one door through which bars and what is made of them go in and out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import polars as pl

from market.errors import MarketError
from market.intervals import interval_ms
from market.store import (
    archived,
    compaction,
    coverage,
    derived,
    gaps,
    identity,
    manifest,
    ordered_scan,
    panel,
    reading,
    removal,
    tables,
)
from market.store import bars as packed
from market.store import revision as revisions
from market.store import roll as rolling
from market.store.audit import find_faults
from market.store.bulk import LEAST_ROWS, write_bulk
from market.store.cold import ColdFiles
from market.store.compaction import CompactionReport
from market.store.database import Database
from market.store.objects import open_objects
from market.store.panel import PANEL_COLUMNS, Panel
from market.store.postgres import PostgresDatabase
from market.store.published import PublishedPanels
from market.store.publishing import Publisher
from market.store.records import StoreRecords
from market.store.removal import RemovalReport
from market.store.roll import RollReport
from market.store.schema import FLAGS, PREDICTIONS, QUARANTINE
from market.store.sqlite import SqliteDatabase
from market.store.symbols import SymbolBook
from market.store.tables import FLAG_SCHEMA, PREDICTION_SCHEMA, QUARANTINE_SCHEMA
from market.store.writing import WriteResult, write_bars, write_lock

if TYPE_CHECKING:
    import duckdb

VIEWS: Final = ("klines", "predictions", "flags", "gaps", "quarantine", "universe", "archives")
"""What `KlineStore.connect_duckdb` shows."""

SPANS_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "kline_interval": pl.String(),
        "rows": pl.Int64(),
        "first_open_time": pl.Int64(),
        "last_open_time": pl.Int64(),
    }
)
GRACE_MS: Final = 3_600_000
"""How long a Parquet file that is no part of the store any more stays for those who may still read it."""


class KlineStore(StoreRecords):
    """Closed bars of many symbols and intervals, with the gap ledger, predictions and flags.

    Safe for several threads of one process and for several processes at once. What a method has written is on
    disk when it returns; if it raises, nothing of the call is stored. Open one with `KlineStore.open`.
    """

    def __init__(self, home: Path, database: Database, files: ColdFiles, grace_ms: int) -> None:
        super().__init__(database, SymbolBook(database))
        self._files, self._grace_ms = files, grace_ms
        self._publisher = Publisher(database, self._book, files, PublishedPanels(home / "panels"))

    @classmethod
    def open(
        cls,
        home: Path,
        database_url: str | None = None,
        *,
        objects_url: str | None = None,
        grace_ms: int = GRACE_MS,
    ) -> KlineStore:
        """Open the store of a home, creating it where there is none.

        Parameters
        ----------
        home : Path
            Folder of all state: Parquet files in ``klines/``, and ``klines.sqlite3`` unless a URL is given.
        database_url : str, optional
            ``postgresql://...`` (a driver in the scheme is ignored); by default SQLite.
        objects_url : str, optional
            ``s3://bucket/prefix`` where the Parquet files rest; by default they rest in ``klines/``.
        grace_ms : int
            How long superseded and abandoned Parquet files stay before an `open` or a `roll` removes them.

        Raises
        ------
        MarketError
            If the folder cannot be written, the database cannot be used or is of a newer schema version, or
            the folder's Parquet files belong to another database.
        """
        home = Path(home)
        identity.make_home(home, with_files=objects_url is None)
        files = ColdFiles(open_objects(objects_url or home / "klines"))
        if not database_url:
            identity.refuse_lost_database(home / "klines.sqlite3", files.objects)
        database: Database = (
            PostgresDatabase(database_url) if database_url else SqliteDatabase(home / "klines.sqlite3")
        )
        try:
            identity.prepare(database, files.objects)
            rolling.clean(database, files, grace_ms)
        except BaseException:
            database.close()
            raise
        return cls(home, database, files, grace_ms)

    def close(self) -> None:
        """Close the store's connections; further calls raise MarketError."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- bars
    # ---------------------------------------------------------------------------------------------------

    def write(
        self, interval: str, frame: pl.DataFrame, *, bulk: bool = False, trusted: bool = False
    ) -> WriteResult:
        """Store closed bars in one transaction; durable when this returns.

        Parameters
        ----------
        frame : pl.DataFrame
            `market.klines.STORED_SCHEMA`, rows in any order. A null close_time follows from open_time.
        bulk : bool
            Same meaning, faster for history: whole days of symbols of which nothing is stored go straight into
            a Parquet file. Give batches of 50,000 to 4,000,000 rows.
        trusted : bool
            The frame is what `market.klines.validate` has just called good: it is not validated again.

        Returns
        -------
        WriteResult
            New rows; rows that replaced other values of a stored bar; rows that were stored already.

        Raises
        ------
        MarketError
            If the schema is wrong, a row is refused by `market.klines.validate` or the database fails.
        """
        interval_ms(interval)
        good = packed.accept(frame, interval, trusted=trusted)
        ids = self._book.ensure(packed.symbols_of(good))
        if bulk and good.height >= LEAST_ROWS:
            return write_bulk(self._database, self._files, interval, good, ids)
        array = packed.pack(good, ids)
        with self._database.write(write_lock(interval)) as transaction:
            return write_bars(transaction, self._files, interval, array, ids)

    def write_derived(self, interval: str, frame: pl.DataFrame) -> int:
        """Store bars built from finer ones where none is stored, and note that they are to be confirmed.

        Returns how many were new; durable, bars and notes together, when this returns.
        """
        interval_ms(interval)
        good = packed.accept(frame, interval)
        ids = self._book.ensure(good["symbol"].unique(maintain_order=True))
        array = packed.pack(good, ids)
        with self._database.write(write_lock(interval)) as transaction:
            new = derived.unstored(transaction, interval, array)
            write_bars(transaction, self._files, interval, new, ids)
            derived.record(transaction, interval, new)
        return len(new)

    def derived(self, interval: str | None = None, symbols: Sequence[str] | None = None) -> pl.DataFrame:
        """Return which bars were derived and not confirmed yet (`market.store.derived.DERIVED_SCHEMA`)."""
        with self._database.read() as transaction:
            return derived.read(transaction, interval, symbols)

    def settle_derived(
        self,
        interval: str,
        confirmed: Sequence[tuple[str, int, int, int]],
        asked: Sequence[tuple[str, int, int, int]],
        now: int,
    ) -> None:
        """Forget spans (symbol, day, start, end) that an exchange has confirmed; note that it was asked for others."""
        ids = self._book.find([symbol for symbol, *_ in (*confirmed, *asked)])
        with self._database.write(write_lock(interval)) as transaction:
            done, still = ([(ids[symbol], *rest) for symbol, *rest in rows] for rows in (confirmed, asked))
            derived.settle(transaction, interval, done, still, now)

    def scan(
        self,
        interval: str,
        symbols: Sequence[str] | None = None,
        start: int | None = None,
        end: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.LazyFrame:
        """Return the bars that open in [start, end) as a lazy frame, sorted by symbol and open_time.

        The set of bars is that of the moment of the call. Collect within the grace period (an hour by
        default), since a roll may supersede the files.
        """
        interval_ms(interval)
        ids = None if symbols is None else list(self._book.find(symbols).values())
        with self._database.read() as transaction:
            snapshot = reading.look(transaction, self._book, interval, ids, start, end)
            owners = manifest.owners(transaction, interval, snapshot.start, snapshot.end, ids)
        return ordered_scan.scan(snapshot, self._files, owners, symbols, columns)

    def panel(
        self,
        interval: str,
        symbols: Sequence[str],
        *,
        start: int | None = None,
        end: int | None = None,
        bars: int | None = None,
        columns: Sequence[str] = PANEL_COLUMNS,
    ) -> Panel:
        """Return bars as dense (T, S) arrays over every open time of the interval in [start, end).

        Parameters
        ----------
        start, end : int, optional
            ms; by default from the first to the last bar that is stored of these symbols.
        bars : int, optional
            Instead of `start`: the last so many bars that are closed at `end` (by default, at the end of the
            newest stored bar).
        columns : Sequence[str]
            Some of `PANEL_COLUMNS`.
        """
        interval_ms(interval)
        panel.check_request(symbols, columns)
        ids = self._book.find(symbols)
        with self._database.read() as transaction:
            chosen = list(ids.values())
            extent = coverage.extent(transaction, interval, chosen)
            first, stop = panel.resolve_span(interval, start, end, bars, extent)
            snapshot = reading.look(transaction, self._book, interval, chosen, first, stop)
        return panel.fill(snapshot, self._files, symbols, ids, columns)

    def revision(self, interval: str) -> int:
        """Return a number that changes with every change of the interval's bars, by any process."""
        interval_ms(interval)
        with self._database.read() as transaction:
            return revisions.current(transaction, interval)

    def publish_panel(
        self,
        interval: str,
        symbols: Sequence[str],
        bars: int = 500,
        *,
        columns: Sequence[str] = PANEL_COLUMNS,
    ) -> None:
        """Publish the last `bars` bars of these symbols for `published_panel`, in place of what was there.

        Only bars that were changed since the last publication are read from the store.

        Raises
        ------
        MarketError
            If the file cannot be written; nothing is lost, readers go to the store.
        """
        interval_ms(interval)
        self._publisher.publish(interval, symbols, bars, columns)

    def published_panel(self, interval: str) -> Panel | None:
        """Return the published panel while it is what the store holds, else None.

        Its arrays are read-only and mapped into memory; they hold the same bits that `panel` would return, and
        stay as they are when another panel is published.
        """
        interval_ms(interval)
        return self._publisher.current(interval)

    def spans(self, interval: str | None = None) -> pl.DataFrame:
        """Return rows, first and last open time per interval and symbol (`SPANS_SCHEMA`)."""
        with self._database.read() as transaction:
            rows = coverage.totals(transaction, interval)
        return pl.DataFrame(rows, schema=SPANS_SCHEMA, orient="row")

    # -- upkeep and analysis
    # ------------------------------------------------------------------------------------

    def roll(self, before_ms: int) -> RollReport:
        """Move the hot bars of whole days that end at or before `before_ms` into Parquet files.

        Killed at any point, nothing is lost: a day is hot until the transaction that registers its file.
        """
        try:
            report = rolling.roll(self._database, self._book, self._files, before_ms)
            rolling.clean(self._database, self._files, self._grace_ms)
        except OSError as error:
            raise MarketError(
                f"a Parquet file cannot be written: {error.strerror or error}",
                where=str(error.filename or self._files.objects.where),
                remedy="free disk space or mend the folder, then run this again; nothing stored is lost",
            ) from error
        return report

    def compact(self, before_ms: int, *, least_files: int = 2) -> CompactionReport:
        """Merge small Parquet files of whole months that end at or before `before_ms` into few large ones.

        The bars stay the same. Killed at any point, nothing is lost or doubled; the merged files stay for the grace
        period. Cheap where there is nothing to do.

        Parameters
        ----------
        least_files : int
            Leave an interval in peace that has fewer small files than this.
        """
        report = compaction.compact(
            self._database, self._book, self._files, before_ms, least_files=least_files
        )
        if report.files_before:
            rolling.clean(self._database, self._files, self._grace_ms)
        return report

    def would_remove(
        self, interval: str, symbols: Sequence[str], start: int | None = None, end: int | None = None
    ) -> RemovalReport:
        """Return what `remove` would remove now: rows, symbols, span, files and ledger rows."""
        span = removal.span_of(interval, self._book.find(symbols), start, end)
        return removal.would_remove(self._database, span)

    def remove(
        self, interval: str, symbols: Sequence[str], start: int | None = None, end: int | None = None
    ) -> RemovalReport:
        """Remove the bars of these symbols that open in [start, end), with their coverage and their ledger rows.

        Nothing else ever deletes bars. All goes in one transaction: killed at any point, all or nothing is removed.
        Later ingests ask for these bars again if they are in their span. Predictions and flags stay.

        Parameters
        ----------
        start, end : int, optional
            ms; None is without bound.
        """
        span = removal.span_of(interval, self._book.find(symbols), start, end)
        return removal.remove(self._database, self._book, self._files, span)

    def verify(self) -> list[str]:
        """Check files against their SHA-256, and the coverage against all bars; returns the faults."""
        return find_faults(self._database, self._book, self._files)

    def connect_duckdb(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection with the views `VIEWS`.

        The views show the store as it was at the call; nothing done on the connection changes the store. Hot
        bars are held in memory: roll first after a large backfill.
        """
        from market.store import duck  # a sweep needs no DuckDB, and should not wait for its loading

        with self._database.read() as transaction:
            snapshots = [
                reading.look(transaction, self._book, interval)
                for interval in coverage.intervals(transaction)
            ]
            frames = {
                "predictions": tables.read(transaction, PREDICTIONS, PREDICTION_SCHEMA, {}, None),
                "flags": tables.read(transaction, FLAGS, FLAG_SCHEMA, {}, None),
                "quarantine": tables.read(transaction, QUARANTINE, QUARANTINE_SCHEMA, {}, None),
                "gaps": gaps.read(transaction, None, None),
                "universe": tables.read_universe(transaction),
                "archives": archived.frame(archived.read(transaction)),
            }
        return duck.connect(snapshots, self._files, frames)
