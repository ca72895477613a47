"""Compaction: many small Parquet files of past months become a few large ones that hold the same bars."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from market.errors import MarketError
from market.intervals import floor_time
from market.klines import STORED_SCHEMA
from market.store import coverage, manifest
from market.store.cold import FILE_ROWS, ColdFiles
from market.store.database import Database
from market.store.manifest import FILES_LOCK, ColdFile, NewFile
from market.store.spans import TIME_LIMIT
from market.store.symbols import SymbolBook
from market.store.writing import write_lock

_LOG = logging.getLogger(__name__)
_TRIES: Final = 3
_MONTH: Final = "1M"


@dataclass(frozen=True)
class CompactionReport:
    """What a compaction did.

    Parameters
    ----------
    files_before, files_after : int
        Parquet files that were merged, and those they became.
    rows : int
        Bars in them.
    bytes : int
        Size of the new files.
    """

    files_before: int
    files_after: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class _Part:
    """What goes into one new file: bars that open in [start, end), of symbols whose names follow each other."""

    start: int
    end: int
    symbols: list[str]


def compact(
    database: Database,
    book: SymbolBook,
    files: ColdFiles,
    before_ms: int,
    *,
    least_files: int,
    file_rows: int = FILE_ROWS,
) -> CompactionReport:
    """Merge small files of months that end at or before `before_ms`, where an interval has `least_files` of them."""
    cutoff = floor_time(before_ms, _MONTH)
    before, after = 0, []
    with database.read() as transaction:
        intervals = coverage.intervals(transaction)
    for interval in intervals:
        for _ in range(_TRIES):
            small = _small(database, interval, cutoff, file_rows)
            if len(small) < max(2, least_files):
                break
            if (made := _merge(database, book, files, small, file_rows)) is not None:
                before += len(small)
                after += made
                break
            _LOG.info("%s: a file was written anew while it was merged with others; again", interval)
    return CompactionReport(
        before, len(after), sum(file.rows for file in after), sum(file.bytes for file in after)
    )


def _small(database: Database, interval: str, cutoff: int, file_rows: int) -> list[ColdFile]:
    """Return the files of past months that are worth merging; what is large enough is left in peace."""
    with database.read() as transaction:
        found = manifest.files(transaction, interval, 0, cutoff)
    return [file for file in found if file.end_time <= cutoff and file.rows < file_rows // 4]


def _merge(
    database: Database, book: SymbolBook, files: ColdFiles, small: list[ColdFile], file_rows: int
) -> list[ColdFile] | None:
    """Write the bars of files into larger ones and swap them; None if one of them was superseded meanwhile."""
    interval = small[0].kline_interval
    files.require_intact(small)
    ids = {name: number for number, name in book.names().items()}
    new: list[NewFile] = []
    for part in _parts(_sizes(files, small), file_rows):
        overlapping = [file for file in small if file.start_time < part.end and file.end_time > part.start]
        new.append(files.publish(interval, _bars(files, overlapping, part), ids))
    kept, held = sum(item.file.rows for item in new), sum(file.rows for file in small)
    if kept != held:
        raise MarketError(
            f"files with {held} bars would become files with {kept}; nothing was changed",
            where=f"{interval}, {len(small)} files from {small[0].path}",
            remedy="run `klinecast run verify`: it names the files that do not hold what the manifest says",
        )
    with database.write(write_lock(interval), FILES_LOCK) as transaction:
        if not manifest.registered(transaction, small) or not files.published(new):
            return None
        return manifest.swap(transaction, new, small)


def _sizes(files: ColdFiles, small: list[ColdFile]) -> pl.DataFrame:
    """Return the number of bars of each symbol and month (its start, ms), by symbol and month."""
    month = pl.from_epoch("open_time", time_unit="ms").dt.truncate("1mo").dt.epoch("ms").alias("month")
    lazy = (
        files.scan(small)
        .select("symbol", month)
        .group_by("symbol", "month")
        .agg(pl.len().cast(pl.Int64).alias("rows"))
        .sort("symbol", "month")
    )
    return files.collect(lazy, small)


def _parts(sizes: pl.DataFrame, file_rows: int) -> Iterator[_Part]:
    """Cut bars into files of as many symbols as fit, whose names follow each other: so a scan needs no sorting.

    A symbol with more bars than fit is cut by months.
    """
    group: list[str] = []
    held = 0
    total = int(sizes["rows"].sum())
    target = total / -(-total // file_rows)  # files of nearly one size, none of which is small again
    for (symbol,), months in sizes.group_by("symbol", maintain_order=True):
        rows = int(months["rows"].sum())
        if group and held + rows > min(file_rows, 1.05 * target):
            yield _Part(0, TIME_LIMIT, group)
            group, held = [], 0
        if rows > file_rows:
            yield from _months(str(symbol), months, file_rows)
        else:
            group.append(str(symbol))
            held += rows
    if group:
        yield _Part(0, TIME_LIMIT, group)


def _months(symbol: str, months: pl.DataFrame, file_rows: int) -> Iterator[_Part]:
    start, held = 0, 0
    for month, rows in months.select("month", "rows").iter_rows():
        if held and held + rows > file_rows:
            yield _Part(start, month, [symbol])
            start, held = month, 0
        held += rows
    yield _Part(start, TIME_LIMIT, [symbol])


def _bars(files: ColdFiles, overlapping: Sequence[ColdFile], part: _Part) -> pl.DataFrame:
    chosen = pl.col("open_time").is_between(part.start, part.end, closed="left")
    if part.symbols is not None:
        chosen = chosen & pl.col("symbol").is_in(part.symbols)
    bars = files.collect(files.scan(overlapping).select(STORED_SCHEMA.names()).filter(chosen), overlapping)
    return bars.sort("symbol", "open_time")
