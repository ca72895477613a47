"""What a store keeps beside bars: the gap ledger, quarantine, archives, predictions, flags and the universe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from market.intervals import ceil_time, interval_ms
from market.store import archived, coverage, gaps, tables
from market.store.archived import ArchivedFile
from market.store.database import Database
from market.store.schema import FLAGS, PREDICTIONS, QUARANTINE
from market.store.symbols import SymbolBook
from market.store.tables import FLAG_SCHEMA, PREDICTION_SCHEMA, QUARANTINE_SCHEMA
from market.store.writing import WriteResult, write_lock


class StoreRecords:
    """The part of `market.store.KlineStore` that reads and writes no bar."""

    def __init__(self, database: Database, book: SymbolBook) -> None:
        self._database, self._book = database, book

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
        """Write absent spans into the gap ledger (`market.store.GAP_SCHEMA`, with or without column `sources`).

        A new row replaces what the ledger said of the same times, and remembers the sources that were asked before;
        times of stored bars are left out. Rows shrink and go by themselves when bars inside them are written.
        """
        good = gaps.accept(frame, interval)
        ids = self._book.ensure(good["symbol"].unique(maintain_order=True))
        rows = [(ids[symbol], *rest) for symbol, *rest in good.rows()]
        with self._database.write(write_lock(interval)) as transaction:
            gaps.record(transaction, interval, rows, list(ids.values()))

    def gaps(self, interval: str | None = None, symbols: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the gap ledger: symbol, kline_interval, start_time, end_time, cause, checked_time, sources."""
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

    # -- archives
    # ---------------------------------------------------------------------------------------------------

    def write_archives(self, files: Sequence[ArchivedFile]) -> None:
        """Keep which archive files were asked for and what was taken from them."""
        with self._database.write("archives") as transaction:
            archived.write(transaction, files)

    def archives(
        self,
        interval: str | None = None,
        symbols: Sequence[str] | None = None,
        start: int | None = None,
        end: int | None = None,
    ) -> list[ArchivedFile]:
        """Return the archive files that were asked for open times in [start, end), by path."""
        with self._database.read() as transaction:
            return archived.read(transaction, interval, symbols, start, end)

    def archives_due(
        self, interval: str, symbols: Sequence[str], now: int, recheck_after_ms: int
    ) -> list[ArchivedFile]:
        """Return the archive files to look at again; see `market.store.archived.due`."""
        with self._database.read() as transaction:
            return archived.due(transaction, interval, symbols, now, recheck_after_ms)

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


def _span_conditions(interval: str | None, start: int | None, end: int | None) -> dict[str, object]:
    return {"kline_interval = ?": interval, "open_time >= ?": start, "open_time < ?": end}
