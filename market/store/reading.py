"""Reading bars: manifest and hot bars in one snapshot, so that each bar is seen once beside a roll."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from market.errors import MarketError
from market.klines import STORED_COLUMNS, STORED_SCHEMA
from market.store import cold
from market.store.bars import Bars, unpack
from market.store.cold import ColdFiles, DayFile
from market.store.database import Transaction
from market.store.spans import TIME_LIMIT
from market.store.symbols import SymbolBook


@dataclass(frozen=True)
class Snapshot:
    """What one transaction saw of an interval: registered files, hot bars (by key), names of symbols."""

    interval: str
    files: list[DayFile]
    hot: Bars
    names: dict[int, str]
    start: int
    end: int

    def corrected(self) -> set[int]:
        """Return the starts of those files of which some bars have a newer twin among the hot ones."""
        if not len(self.hot):
            return set()
        days = set(np.unique(self.hot["open_time"] // cold.DAY_MS * cold.DAY_MS).tolist())
        return {file.start_time for file in self.files} & days


def look(
    transaction: Transaction,
    book: SymbolBook,
    interval: str,
    symbol_ids: Sequence[int] | None = None,
    start: int | None = None,
    end: int | None = None,
) -> Snapshot:
    """Read what is stored of [start, end) and of these symbols; None is without bound."""
    first, stop = 0 if start is None else start, TIME_LIMIT if end is None else end
    return Snapshot(
        interval,
        cold.files(transaction, interval, first, stop),
        transaction.read_bars(interval, first, stop, symbol_ids),
        book.names_in(transaction),
        first,
        stop,
    )


def scan(
    snapshot: Snapshot, cold_files: ColdFiles, symbols: Sequence[str] | None, columns: Sequence[str] | None
) -> pl.LazyFrame:
    """Return a snapshot's bars as a lazy frame by symbol and open_time; files are read on collect."""
    wanted = list(STORED_COLUMNS if columns is None else columns)
    if unknown := [name for name in wanted if name not in STORED_COLUMNS]:
        raise MarketError(
            f"no column {', '.join(map(repr, unknown))} in klines",
            where="columns",
            remedy=f"choose from {', '.join(STORED_COLUMNS)}",
        )
    hot = unpack(snapshot.hot, snapshot.names, snapshot.interval)
    parts = _cold_parts(snapshot, cold_files, hot)
    if symbols is not None:
        chosen = pl.col("symbol").is_in(list(dict.fromkeys(symbols)))
        parts = [part.filter(chosen) for part in parts]
    if not hot.is_empty() or not parts:
        parts.append(hot.lazy())
    return pl.concat(parts).sort("symbol", "open_time").select(wanted)


def _cold_parts(snapshot: Snapshot, cold_files: ColdFiles, hot: pl.DataFrame) -> list[pl.LazyFrame]:
    corrected = snapshot.corrected()
    groups = (
        [file for file in snapshot.files if file.start_time not in corrected],
        [file for file in snapshot.files if file.start_time in corrected],
    )
    within = pl.col("open_time").is_between(snapshot.start, snapshot.end, closed="left")
    parts = []
    for group, superseded in zip(groups, (False, True), strict=True):
        if not group:
            continue
        paths = [cold_files.locate(file) for file in group]
        part = pl.scan_parquet(paths, glob=False).select(STORED_SCHEMA.names()).filter(within)
        if superseded:
            part = part.join(hot.lazy().select("symbol", "open_time"), on=["symbol", "open_time"], how="anti")
        parts.append(part)
    return parts
