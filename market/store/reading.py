"""Reading bars: manifest and hot bars in one snapshot, so that each bar is seen once beside a roll."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from market.klines import STORED_SCHEMA
from market.store import manifest, spans
from market.store.bars import Bars
from market.store.cold import ColdFiles
from market.store.database import Transaction
from market.store.manifest import UNREGISTERED, ColdFile
from market.store.spans import TIME_LIMIT
from market.store.symbols import SymbolBook

_FEW_SYMBOLS = 64  # files are looked up for so many symbols; of more, nearly every file holds one


@dataclass(frozen=True)
class Snapshot:
    """What one transaction saw of an interval.

    Parameters
    ----------
    files : list[ColdFile]
        Registered files that hold bars of the span and of the symbols that were asked for, by time.
    hot : Bars
        By open_time and symbol number.
    names : dict[int, str]
        Names of symbols.
    corrected : frozenset[int]
        The numbers of those files of which some bars have, or may have, a newer twin among the hot ones.
    """

    interval: str
    files: list[ColdFile]
    hot: Bars
    names: dict[int, str]
    start: int
    end: int
    corrected: frozenset[int] = field(default_factory=frozenset)

    def parted(self) -> tuple[list[ColdFile], list[ColdFile]]:
        """Return the files that hold the newest bars only, and the others."""
        whole = [file for file in self.files if file.file_id not in self.corrected]
        return whole, [file for file in self.files if file.file_id in self.corrected]

    def within(self, bars: pl.LazyFrame) -> pl.LazyFrame:
        """Return the bars of the span; untouched where it has no bounds, since comparing costs time."""
        if self.start <= 0 and self.end >= TIME_LIMIT:
            return bars
        return bars.filter(pl.col("open_time").is_between(self.start, self.end, closed="left"))

    def of_files(self, file_ids: Collection[int]) -> Snapshot:
        """Return the same with none but these files."""
        return replace(self, files=[file for file in self.files if file.file_id in file_ids])


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
    files = manifest.files(transaction, interval, first, stop)
    if symbol_ids is not None and len(files) > 1 and len(symbol_ids) <= _FEW_SYMBOLS:
        holders = set(manifest.owners(transaction, interval, first, stop, symbol_ids).file_ids.tolist())
        files = [file for file in files if file.file_id in holders]
    hot = transaction.read_bars(interval, first, stop, symbol_ids)
    twins = _corrected(transaction, interval, files, hot)
    return Snapshot(interval, files, hot, book.names_in(transaction), first, stop, twins)


def _corrected(transaction: Transaction, interval: str, files: list[ColdFile], hot: Bars) -> frozenset[int]:
    if not len(hot) or not files:
        return frozenset()
    first, last = int(hot["open_time"][0]), int(hot["open_time"][-1])
    if not any(file.start_time <= last and file.end_time > first for file in files):
        return frozenset()
    owners = manifest.owners(transaction, interval, first, last + 1)
    held = owners.of(spans.place(hot["symbol_id"], hot["open_time"]))
    return frozenset(np.unique(held[held != UNREGISTERED]).tolist())


def cold_parts(snapshot: Snapshot, cold_files: ColdFiles, hot: pl.DataFrame) -> list[pl.LazyFrame]:
    """Return the cold bars of which no newer twin is hot."""
    parts = []
    for group, superseded in zip(snapshot.parted(), (False, True), strict=True):
        if not group:
            continue
        part = snapshot.within(cold_files.scan(group).select(STORED_SCHEMA.names()))
        if superseded:
            part = part.join(hot.lazy().select("symbol", "open_time"), on=["symbol", "open_time"], how="anti")
        parts.append(part)
    return parts
