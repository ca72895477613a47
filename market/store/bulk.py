"""Bulk writing: whole days of which nothing is stored go straight into a Parquet file, the rest becomes hot."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.intervals import interval_ms
from market.klines import STORED_SCHEMA
from market.store import coverage, gaps, manifest, revision, spans
from market.store.bars import pack
from market.store.cold import FILE_ROWS, ColdFiles
from market.store.database import Database, Transaction
from market.store.manifest import DAY_MS, FILES_LOCK, NewFile
from market.store.spans import Int64s
from market.store.writing import WriteResult, write_bars, write_lock

_LOG = logging.getLogger(__name__)
_TRIES: Final = 3
LEAST_ROWS: Final = 4_096
"""Fewer rows than this are not worth a file of their own: they become hot, and the roll takes them along."""

_FLOATS: Final = tuple(name for name, kind in STORED_SCHEMA.items() if kind.is_float())


@dataclass(frozen=True)
class _Rows:
    """Accepted bars, sorted by symbol and open_time, with what the coverage is asked.

    Parameters
    ----------
    numbers : int64 (n,)
        Symbol number of each row.
    open_time : int64 (n,)
        ms.
    first : int64 (days,)
        The first row of each (symbol, day).
    """

    interval: str
    frame: pl.DataFrame
    numbers: Int64s
    open_time: Int64s
    first: Int64s

    @property
    def step(self) -> int:
        return interval_ms(self.interval)

    @property
    def start(self) -> int:
        return int(self.open_time.min())

    @property
    def end(self) -> int:
        return int(self.open_time.max()) + self.step


def write_bulk(
    database: Database, files: ColdFiles, interval: str, good: pl.DataFrame, symbol_ids: Mapping[str, int]
) -> WriteResult:
    """Store accepted bars (`market.store.bars.accept`) in one transaction.

    The files are written before the transaction begins, so that other writers do not wait for them; it registers them
    only if what was free then is free still.
    """
    rows = _rows(interval, good, symbol_ids)
    for _ in range(_TRIES):
        with database.read() as transaction:
            free = _free(transaction, rows)
        new = _publish(files, rows, free, symbol_ids)
        with database.write(write_lock(interval), FILES_LOCK) as transaction:
            if np.array_equal(_free(transaction, rows), free) and files.published(new):
                return _commit(transaction, files, rows, free, new, symbol_ids)
        _LOG.info("%s changed while a file was written; again", interval)
    with database.write(write_lock(interval), FILES_LOCK) as transaction:
        free = _free(transaction, rows)
        return _commit(transaction, files, rows, free, _publish(files, rows, free, symbol_ids), symbol_ids)


def _rows(interval: str, good: pl.DataFrame, symbol_ids: Mapping[str, int]) -> _Rows:
    runs = good["symbol"].rle().struct.unnest()
    numbers = np.fromiter(map(symbol_ids.__getitem__, runs["value"].to_list()), np.int64, runs.height)
    counts = runs["len"].cast(pl.Int64).to_numpy()
    open_time = good["open_time"].to_numpy()
    first = manifest.day_starts(counts, open_time)
    return _Rows(interval, good, np.repeat(numbers, counts), open_time, first)


def _free(transaction: Transaction, rows: _Rows) -> NDArray[np.bool_]:
    """Tell which (symbol, day)s go into a file: nothing of them is stored, and these rows are all there is of them.

    A day is taken to be whole where it begins with the first bar of the day or follows a day that is given too, and
    ends likewise. What a batch has cut in the middle becomes hot, since its other half comes with the next batch.
    """
    if len(rows.frame) < LEAST_ROWS:
        return np.zeros(len(rows.first), bool)
    step = rows.step
    last = np.append(rows.first[1:], len(rows.numbers)) - 1
    opened, closed = rows.open_time[rows.first] % DAY_MS, rows.open_time[last] % DAY_MS
    days = spans.place(rows.numbers[rows.first], rows.open_time[rows.first] - opened)
    pitch = max(step, DAY_MS)
    follows = np.concatenate(([False], days[1:] - days[:-1] <= pitch)) & np.concatenate(
        ([False], rows.numbers[rows.first][1:] == rows.numbers[rows.first][:-1])
    )
    begins = (opened < step) | follows
    ends = (closed + step >= DAY_MS) | np.append(follows[1:], False)
    ids = np.unique(rows.numbers[rows.first]).tolist()
    covered = coverage.load(transaction, rows.interval, ids, rows.start - DAY_MS, rows.end + DAY_MS)
    free = begins & ends & ~spans.meet(np.stack((days, days + DAY_MS), axis=1), covered)
    sizes = last - rows.first + 1
    return free if int(sizes[free].sum()) >= LEAST_ROWS else np.zeros(len(free), bool)


def _chosen(rows: _Rows, free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for each row whether its day is free."""
    return np.repeat(free, np.diff(np.append(rows.first, len(rows.numbers))))


def _publish(
    files: ColdFiles, rows: _Rows, free: NDArray[np.bool_], symbol_ids: Mapping[str, int]
) -> list[NewFile]:
    if not free.any():
        return []
    filed = rows.frame if free.all() else rows.frame.filter(pl.Series(_chosen(rows, free)))
    filed = filed.with_columns(
        (pl.col("open_time") + (rows.step - 1)).alias("close_time"),
        *(_without_minus(name) for name in _FLOATS if _may_be_minus(filed[name])),
    )
    sizes = np.diff(np.append(rows.first, len(rows.numbers)))[free]
    return [files.publish(rows.interval, part, symbol_ids) for part in _cut(filed, sizes)]


def _without_minus(name: str) -> pl.Expr:
    """Make 0.0 of -0.0, as in hot bars: equal bars have equal bytes; Polars drops a term that adds 0.0."""
    return pl.when(pl.col(name) == 0.0).then(0.0).otherwise(pl.col(name)).alias(name)


def _may_be_minus(values: pl.Series) -> bool:
    """Tell whether any value has a minus, or cannot be looked at cheaply."""
    return bool(values.null_count() or np.signbit(values.to_numpy()).any())


def _cut(filed: pl.DataFrame, sizes: Int64s) -> Iterator[pl.DataFrame]:
    """Cut rows into files at the ends of days, which have these sizes."""
    ends = np.cumsum(sizes)
    begin = 0
    while begin < filed.height:
        end = int(ends[np.searchsorted(ends, begin + FILE_ROWS, side="right") - 1])
        yield filed[begin:end]
        begin = end


def _commit(
    transaction: Transaction,
    files: ColdFiles,
    rows: _Rows,
    free: NDArray[np.bool_],
    new: list[NewFile],
    symbol_ids: Mapping[str, int],
) -> WriteResult:
    """Register the files with the coverage of their bars, and store the other rows."""
    chosen = _chosen(rows, free)
    if new:
        manifest.swap(transaction, new, [])
        _cover(transaction, rows, free)
    if chosen.all():
        return WriteResult(rows.frame.height, 0, 0)
    rest = pack(rows.frame.filter(pl.Series(~chosen)), symbol_ids)
    result = write_bars(transaction, files, rows.interval, rest, symbol_ids)
    return WriteResult(result.rows_inserted + int(chosen.sum()), result.rows_updated, result.rows_unchanged)


def _cover(transaction: Transaction, rows: _Rows, free: NDArray[np.bool_]) -> None:
    """Extend the coverage by the bars that went into files, take them out of the ledger, and tell of the change."""
    chosen = slice(None) if free.all() else _chosen(rows, free)
    opened = rows.open_time[chosen]
    start, end = int(opened.min()), int(opened.max()) + rows.step
    places = spans.place(rows.numbers[chosen], opened)
    added = spans.merge(spans.runs(places, rows.step))
    ids = np.unique(spans.unplace(added[:, 0])[0]).tolist()
    known = coverage.load(transaction, rows.interval, ids, start, end)
    coverage.extend(transaction, rows.interval, known, added)
    gaps.heal(transaction, rows.interval, added, start, end)
    days = np.unique(rows.open_time[rows.first[free]] // DAY_MS * DAY_MS).tolist()
    revision.record(transaction, rows.interval, days, start, end)
