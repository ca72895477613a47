"""Removing bars: the one way in which bars, their coverage and their ledger rows ever go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from market.errors import MarketError
from market.intervals import ceil_time, interval_ms
from market.klines import STORED_SCHEMA
from market.store import coverage, gaps, manifest, revision, spans
from market.store.bars import Bars
from market.store.cold import ColdFiles
from market.store.database import Database, Transaction
from market.store.manifest import DAY_MS, FILES_LOCK, ColdFile, NewFile, Owners
from market.store.roll import delete_hot
from market.store.spans import TIME_LIMIT, Int64s
from market.store.symbols import SymbolBook
from market.store.writing import write_lock
from market.wording import utc

_TRIES: Final = 3


@dataclass(frozen=True)
class RemovalReport:
    """What was, or would be, removed.

    Parameters
    ----------
    interval : str
        Interval of the bars.
    symbols : tuple[str, ...]
        Those of the symbols asked for of which bars go, sorted.
    start_time, end_time : int or None
        First open time of these bars and the end of the last one (ms); None where there are none.
    rows : int
        Bars that go, hot and cold.
    files : int
        Parquet files that hold some of them, and are written anew or dropped.
    gaps : int
        Rows of the gap ledger that go or shrink.
    """

    interval: str
    symbols: tuple[str, ...]
    start_time: int | None
    end_time: int | None
    rows: int
    files: int
    gaps: int


@dataclass(frozen=True)
class _Span:
    """What is asked for: symbols by name, and open times in [start, end) on the interval's grid."""

    interval: str
    ids: Mapping[str, int]
    start: int
    end: int

    @property
    def numbers(self) -> list[int]:
        return sorted(self.ids.values())

    @property
    def holes(self) -> Int64s:
        """The span of each symbol, on the common line (n, 2)."""
        ids = np.array(self.numbers, np.int64)
        edges = (np.full(len(ids), self.start), np.full(len(ids), self.end))
        return np.stack([spans.place(ids, edge) for edge in edges], axis=1)


@dataclass(frozen=True)
class _Seen:
    """What one snapshot showed of a span.

    Parameters
    ----------
    files : list[ColdFile]
        Files that hold bars of it.
    whole : frozenset[int]
        The numbers of those of them that hold nothing else.
    """

    covered: Int64s
    hot: Bars
    owners: Owners
    files: list[ColdFile]
    whole: frozenset[int]
    versions: list[tuple[int, int]]
    gaps: int

    def same_files(self, other: _Seen) -> bool:
        """Tell whether nothing has changed since that matters to files that were written from this state."""
        return (
            self.files == other.files  # by path: a number may have passed to another file
            and np.array_equal(self.owners.spans, other.owners.spans)
            and np.array_equal(self.owners.file_ids, other.owners.file_ids)
            and self.versions == other.versions
        )


def span_of(interval: str, ids: Mapping[str, int], start: int | None, end: int | None) -> _Span:
    """Return a span on the interval's grid; None is without bound.

    Raises
    ------
    MarketError
        If the interval is unknown, or the end lies before the start.
    """
    interval_ms(interval)
    if start is not None and end is not None and end < start:
        raise MarketError(
            f"the span ends before it starts: {utc(end)} is before {utc(start)}",
            where="start and end",
            remedy="give an end after the start; None is without bound",
        )
    first = 0 if start is None else max(0, ceil_time(start, interval))
    stop = TIME_LIMIT if end is None else min(TIME_LIMIT, ceil_time(end, interval))
    return _Span(interval, ids, first, max(first, stop))


def would_remove(database: Database, span: _Span) -> RemovalReport:
    """Return what `remove` would remove now."""
    with database.read() as transaction:
        return _report(span, _look(transaction, span))


def remove(database: Database, book: SymbolBook, files: ColdFiles, span: _Span) -> RemovalReport:
    """Remove bars in one transaction; killed at any point, all of them are there or none.

    Files are written anew without the bars before the transaction begins; it swaps them if nothing changed since.
    """
    for _ in range(_TRIES):
        with database.read() as transaction:
            seen = _look(transaction, span)
        new, old = _rewritten(book, files, span, seen)
        with database.write(write_lock(span.interval), FILES_LOCK) as transaction:
            now = _look(transaction, span)
            if seen.same_files(now) and files.published(new):
                return _commit(transaction, span, now, new, old)
    with database.write(write_lock(span.interval), FILES_LOCK) as transaction:
        seen = _look(transaction, span)
        return _commit(transaction, span, seen, *_rewritten(book, files, span, seen))


def _look(transaction: Transaction, span: _Span) -> _Seen:
    numbers, interval = span.numbers, span.interval
    owners = manifest.owners(transaction, interval, span.start, span.end, numbers)
    covered = coverage.load(transaction, interval, numbers, span.start, span.end)
    going = _intersection(covered, span.holes)
    holders = set(owners.file_ids[spans.meet(owners.spans, going)].tolist())
    found = [
        file
        for file in manifest.files(transaction, interval, span.start, span.end)
        if file.file_id in holders
    ]
    versions = transaction.execute(
        "SELECT start_time, version FROM day_versions WHERE kline_interval = ? AND start_time > ?"
        " AND start_time < ? ORDER BY start_time",
        (interval, span.start - DAY_MS, span.end),
    )
    ledger = gaps.load(transaction, interval, span.start, span.end).spans
    return _Seen(
        covered,
        transaction.read_bars(interval, span.start, span.end, numbers),
        owners,
        found,
        frozenset(file.file_id for file in found if _is_within(transaction, file, span)),
        [(start, version) for start, version in versions],
        int(spans.meet(ledger, span.holes).sum()),
    )


def _is_within(transaction: Transaction, file: ColdFile, span: _Span) -> bool:
    """Tell whether all days that a file holds, of all its symbols, lie within the span."""
    owned = manifest.days_in(transaction, file)
    return len(owned) > 0 and len(spans.subtract(owned, span.holes)[0]) == 0


def _report(span: _Span, seen: _Seen) -> RemovalReport:
    names = {number: name for name, number in span.ids.items()}
    going = _intersection(seen.covered, span.holes)
    owners, first = spans.unplace(going[:, 0])
    _, last = spans.unplace(going[:, 1])
    return RemovalReport(
        span.interval,
        tuple(sorted(names[number] for number in np.unique(owners).tolist())),
        int(first.min()) if len(going) else None,
        int(last.max()) if len(going) else None,
        int((going[:, 1] - going[:, 0]).sum()) // interval_ms(span.interval),
        len(seen.files),
        seen.gaps,
    )


def _intersection(covered: Int64s, holes: Int64s) -> Int64s:
    rest, _ = spans.subtract(covered, holes)
    return spans.subtract(covered, rest)[0]


def _rewritten(
    book: SymbolBook, files: ColdFiles, span: _Span, seen: _Seen
) -> tuple[list[NewFile], list[ColdFile]]:
    """Write the files that hold bars of the span anew without them; an empty one gets no successor.

    One that holds nothing else is not read: it may be damaged, or gone.
    """
    gone = pl.col("symbol").is_in(list(span.ids)) & pl.col("open_time").is_between(
        span.start, span.end, closed="left"
    )
    numbers = {name: number for number, name in book.names().items()}
    new, old = [], []
    for file in seen.files:
        if file.file_id in seen.whole:
            old.append(file)
            continue
        files.require_intact([file])
        kept = files.collect(files.scan([file]).select(STORED_SCHEMA.names()).filter(~gone), [file])
        if kept.height == file.rows:
            continue
        old.append(file)
        if kept.height:
            new.append(files.publish(span.interval, kept, numbers))
    return new, old


def _commit(
    transaction: Transaction, span: _Span, seen: _Seen, new: list[NewFile], old: list[ColdFile]
) -> RemovalReport:
    """Take the bars out of everything that tells of them; a later ingest asks for them as if they had never been."""
    report = _report(span, seen)
    going = _intersection(seen.covered, span.holes)
    manifest.swap(transaction, new, old)
    delete_hot(transaction, span.interval, seen.hot)
    coverage.cut(transaction, span.interval, seen.covered, span.holes)
    gaps.heal(transaction, span.interval, span.holes, span.start, span.end)
    _forget_origins(transaction, span)
    if report.rows and report.start_time is not None and report.end_time is not None:
        days = _days(going, interval_ms(span.interval))
        revision.record(transaction, span.interval, days, report.start_time, report.end_time)
    return report


def _days(going: Int64s, step: int) -> list[int]:
    """Return the starts of the UTC days in which a bar of these spans opens."""
    _, first = spans.unplace(going[:, 0])
    _, end = spans.unplace(going[:, 1])
    edges = np.unique(np.stack((first - first % DAY_MS, end - step), axis=1), axis=0).tolist()
    days = {day for start, last in edges for day in range(start, last + 1, DAY_MS)}
    return sorted(days)


def _forget_origins(transaction: Transaction, span: _Span) -> None:
    """Forget what was derived, and which archive files were taken: they are to be taken again."""
    for name, number in span.ids.items():
        transaction.run(
            "DELETE FROM derived WHERE kline_interval = ? AND symbol_id = ? AND start_time >= ? AND end_time <= ?",
            (span.interval, number, span.start, span.end),
        )
        transaction.run(
            "DELETE FROM archives WHERE kline_interval = ? AND symbol = ? AND end_time > ? AND start_time < ?",
            (span.interval, name, span.start, span.end),
        )
