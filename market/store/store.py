"""`KlineStore`: the one door through which bars and what is made of them go in and out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import polars as pl

from market.errors import MarketError
from market.intervals import ceil_time, interval_ms
from market.store import bars as packed
from market.store import coverage, gaps, identity, panel, reading, tables
from market.store import roll as rolling
from market.store.audit import find_faults
from market.store.cold import ColdFiles
from market.store.database import Database
from market.store.panel import PANEL_COLUMNS, Panel
from market.store.postgres import PostgresDatabase
from market.store.roll import RollReport
from market.store.schema import FLAGS, PREDICTIONS, QUARANTINE
from market.store.sqlite import SqliteDatabase
from market.store.symbols import SymbolBook
from market.store.tables import FLAG_SCHEMA, PREDICTION_SCHEMA, QUARANTINE_SCHEMA
from market.store.writing import WriteResult, write_bars, write_lock

if TYPE_CHECKING:
    import duckdb

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


class KlineStore:
    """Closed bars of many symbols and intervals, with the gap ledger, predictions and flags.

    Safe for several threads of one process and for several processes at once. What a method has written is on
    disk when it returns; if it raises, nothing of the call is stored. Open one with `KlineStore.open`.
    """

    def __init__(self, database: Database, files: ColdFiles, grace_ms: int) -> None:
        self._database, self._files, self._grace_ms = database, files, grace_ms
        self._book = SymbolBook(database)

    @classmethod
    def open(cls, home: Path, database_url: str | None = None, *, grace_ms: int = GRACE_MS) -> KlineStore:
        """Open the store of a home, creating it where there is none.

        Parameters
        ----------
        home : Path
            Folder of all state: Parquet files in ``klines/``, and ``klines.sqlite3`` unless a URL is given.
        database_url : str, optional
            ``postgresql://...`` (a driver in the scheme is ignored); by default SQLite.
        grace_ms : int
            How long superseded and abandoned Parquet files stay before an `open` or a `roll` removes them.

        Raises
        ------
        MarketError
            If the folder cannot be written, the database cannot be used or is of a newer schema version, or
            the folder's Parquet files belong to another database.
        """
        home = Path(home)
        files = ColdFiles(identity.make_folders(home))
        database: Database = (
            PostgresDatabase(database_url) if database_url else SqliteDatabase(home / "klines.sqlite3")
        )
        try:
            identity.prepare(database, files.folder)
            rolling.clean(database, files, grace_ms)
        except BaseException:
            database.close()
            raise
        return cls(database, files, grace_ms)

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

    def write(self, interval: str, frame: pl.DataFrame) -> WriteResult:
        """Store closed bars in one transaction; durable when this returns.

        Parameters
        ----------
        frame : pl.DataFrame
            `market.klines.STORED_SCHEMA`, rows in any order. A null close_time follows from open_time.

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
        good = packed.accept(frame, interval)
        ids = self._book.ensure(good["symbol"].unique(maintain_order=True))
        array = packed.pack(good, ids)
        with self._database.write(write_lock(interval)) as transaction:
            return write_bars(transaction, self._files, interval, array, ids)

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
        return reading.scan(snapshot, self._files, symbols, columns)

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

    def spans(self, interval: str | None = None) -> pl.DataFrame:
        """Return rows, first and last open time per interval and symbol (`SPANS_SCHEMA`)."""
        with self._database.read() as transaction:
            rows = coverage.totals(transaction, interval)
        return pl.DataFrame(rows, schema=SPANS_SCHEMA, orient="row")

    # -- gaps
    # ---------------------------------------------------------------------------------------------------

    def missing(
        self, symbol: str, interval: str, start: int, end: int, *, recheck_before: int | None = None
    ) -> list[tuple[int, int]]:
        """Return the spans of open times in [start, end) that are neither stored nor ledgered absent.

        Parameters
        ----------
        recheck_before : int, optional
            Ledgered spans that were last checked before this time (ms) count as missing too.
        """
        return self.missing_many([symbol], interval, start, end, recheck_before=recheck_before)[symbol]

    def missing_many(
        self,
        symbols: Iterable[str],
        interval: str,
        start: int,
        end: int,
        *,
        recheck_before: int | None = None,
    ) -> dict[str, list[tuple[int, int]]]:
        """Return `missing` of many symbols in one go."""
        names = list(dict.fromkeys(symbols))
        first, stop = max(0, ceil_time(start, interval)), ceil_time(end, interval)
        if first >= stop:
            return {name: [] for name in names}
        ids = self._book.find(names)
        with self._database.read() as transaction:
            known = coverage.load(transaction, interval, list(ids.values()), first, stop)
            ledger = gaps.load(transaction, interval, first, stop)
        found = gaps.absent(known, ledger, list(ids.values()), first, stop, recheck_before)
        return {name: found[ids[name]] if name in ids else [(first, stop)] for name in names}

    def record_gaps(self, interval: str, frame: pl.DataFrame) -> None:
        """Write absent spans into the gap ledger (`market.store.GAP_SCHEMA`).

        A new row replaces what the ledger said of the same times; times of stored bars are left out. Rows
        shrink and go by themselves when bars inside them are written.
        """
        good = gaps.accept(frame, interval)
        ids = self._book.ensure(good["symbol"].unique(maintain_order=True))
        rows = [(ids[symbol], *rest) for symbol, *rest in good.rows()]
        with self._database.write(write_lock(interval)) as transaction:
            gaps.record(transaction, interval, rows, list(ids.values()))

    def gaps(self, interval: str | None = None, symbols: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the gap ledger: symbol, kline_interval, start_time, end_time, cause, checked_time."""
        with self._database.read() as transaction:
            return gaps.read(transaction, interval, symbols)

    def quarantine(self, interval: str, refused_frame: pl.DataFrame, source: str) -> int:
        """Keep refused rows with their `reason`; returns how many were not in quarantine already."""
        interval_ms(interval)
        with self._database.write("quarantine") as transaction:
            return tables.write_quarantine(transaction, interval, refused_frame, source)

    def quarantined(self, interval: str | None = None) -> pl.DataFrame:
        """Return the quarantined rows (`market.store.QUARANTINE_SCHEMA`)."""
        with self._database.read() as transaction:
            conditions: dict[str, object] = {"kline_interval = ?": interval}
            return tables.read(transaction, QUARANTINE, QUARANTINE_SCHEMA, conditions, None)

    # -- what is made of bars
    # -----------------------------------------------------------------------------------

    def write_predictions(self, frame: pl.DataFrame) -> WriteResult:
        """Store predictions (`market.store.PREDICTION_SCHEMA`); the first under a key stays."""
        with self._database.write("predictions") as transaction:
            return tables.write_predictions(transaction, frame)

    def predictions(
        self,
        interval: str | None = None,
        symbols: Sequence[str] | None = None,
        start: int | None = None,
        end: int | None = None,
        model_version: str | None = None,
    ) -> pl.DataFrame:
        """Return the predictions made at bars that open in [start, end), oldest first."""
        conditions = {**_span_conditions(interval, start, end), "model_version = ?": model_version}
        with self._database.read() as transaction:
            return tables.read(transaction, PREDICTIONS, PREDICTION_SCHEMA, conditions, symbols)

    def write_flags(self, frame: pl.DataFrame) -> WriteResult:
        """Store anomaly flags (`market.store.FLAG_SCHEMA`); a known one takes the new score."""
        with self._database.write("flags") as transaction:
            return tables.write_flags(transaction, frame)

    def flags(
        self,
        interval: str | None = None,
        symbols: Sequence[str] | None = None,
        start: int | None = None,
        end: int | None = None,
        detector: str | None = None,
    ) -> pl.DataFrame:
        """Return the flags of bars that open in [start, end), oldest first."""
        conditions = {**_span_conditions(interval, start, end), "detector = ?": detector}
        with self._database.read() as transaction:
            return tables.read(transaction, FLAGS, FLAG_SCHEMA, conditions, symbols)

    def write_universe(self, frame: pl.DataFrame) -> None:
        """Replace the universe: one row a symbol, in order, with any further columns."""
        with self._database.write("universe") as transaction:
            tables.write_universe(transaction, frame)

    def universe(self) -> pl.DataFrame:
        """Return the universe as it was written; no rows before that."""
        with self._database.read() as transaction:
            return tables.read_universe(transaction)

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
                where=str(error.filename or self._files.folder),
                remedy="free disk space or mend the folder, then run this again; nothing stored is lost",
            ) from error
        return report

    def verify(self) -> list[str]:
        """Check files against their SHA-256, and the coverage against all bars; returns the faults."""
        return find_faults(self._database, self._book, self._files)

    def connect_duckdb(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection with views klines, predictions, flags, gaps, quarantine and universe.

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
            }
        return duck.connect(snapshots, self._files, frames)


def _span_conditions(interval: str | None, start: int | None, end: int | None) -> dict[str, object]:
    return {"kline_interval = ?": interval, "open_time >= ?": start, "open_time < ?": end}
