"""The manifest: which Parquet files are part of the store, and which days of which symbols each one holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

import numpy as np

from market.errors import MarketError
from market.intervals import DAY_MS
from market.store import spans
from market.store.database import Transaction
from market.store.schema import FILE_SYMBOLS, FILES, RETIRED
from market.store.spans import Int64s

FILES_LOCK: Final = "files"
"""Held while files are registered or removed: none may go between being written and registered."""

UNREGISTERED: Final = -1
_IN_QUERY = 64  # beyond as many symbols, one range of the key is quicker than a look-up for each


@dataclass(frozen=True)
class ColdFile:
    """A row of the manifest: a file with bars of an interval that open in [start_time, end_time)."""

    file_id: int
    kline_interval: str
    start_time: int
    end_time: int
    path: str
    rows: int
    bytes: int
    sha256: str
    schema_version: int
    created_at: int


@dataclass(frozen=True)
class NewFile:
    """A durable file that is not registered yet.

    Parameters
    ----------
    file : ColdFile
        With file_id `UNREGISTERED`.
    owned : int64 (n, 2)
        Spans of whole days of the symbols in it, on the common line (`spans.place`).
    """

    file: ColdFile
    owned: Int64s


@dataclass(frozen=True)
class Owners:
    """Which file holds which days: disjoint ascending spans on the common line (n, 2), and file ids (n,)."""

    spans: Int64s
    file_ids: Int64s

    def of(self, places: Int64s) -> Int64s:
        """Return the file that holds the day of each place, `UNREGISTERED` where none does."""
        row = spans.index_of(self.spans, places)
        if not len(self.spans):
            return row
        return np.where(row >= 0, self.file_ids[row], UNREGISTERED)


def days_of(symbol_id: Int64s, counts: Int64s, open_time: Int64s, step: int) -> Int64s:
    """Return the spans of days that hold these bars, on the common line, (n, 2).

    Days that follow each other become one span; so do those of bars of more than a day that do.

    Parameters
    ----------
    symbol_id, counts : int64 (runs,)
        Symbols in the order of the bars, and how many bars each has there.
    open_time : int64 (bars,)
    """
    first = day_starts(counts, open_time)  # few rows, where bars of a day follow each other
    numbers = symbol_id[np.searchsorted(np.cumsum(counts), first, side="right")]
    days = np.unique(spans.place(numbers, open_time[first] - open_time[first] % DAY_MS))
    return spans.merge(spans.runs(days, max(step, DAY_MS)))


def day_starts(counts: Int64s, open_time: Int64s) -> Int64s:
    """Return the first row of each stretch of bars of one symbol and day, ascending."""
    day = open_time // DAY_MS
    changes = np.flatnonzero(day[1:] != day[:-1]) + 1
    runs = np.cumsum(counts) - counts
    return np.union1d(runs[counts > 0], changes)


def files(transaction: Transaction, interval: str | None, start: int, end: int) -> list[ColdFile]:
    """Return the registered files that overlap [start, end), by interval and time; None: of all intervals."""
    chosen, parameters = ("", ()) if interval is None else (" AND kline_interval = ?", (interval,))
    rows = transaction.execute(
        f"SELECT {', '.join(FILES.columns)} FROM files WHERE end_time > ? AND start_time < ?{chosen}"  # noqa: S608
        " ORDER BY kline_interval, start_time, file_id",
        (start, end, *parameters),
    )
    return [ColdFile(*row) for row in rows]


def owners(
    transaction: Transaction, interval: str, start: int, end: int, symbol_ids: Sequence[int] | None = None
) -> Owners:
    """Return which files hold the days that overlap [start, end), of these or of all symbols."""
    chosen = ""
    few = symbol_ids is not None and len(symbol_ids) <= _IN_QUERY
    if few:
        chosen = f" AND symbol_id IN ({', '.join(str(int(i)) for i in symbol_ids or ()) or 'NULL'})"
    rows = transaction.execute(
        "SELECT symbol_id, start_time, end_time, file_id FROM file_symbols"  # noqa: S608 - numbers of ours
        f" WHERE kline_interval = ? AND end_time > ? AND start_time < ?{chosen}"
        " ORDER BY symbol_id, start_time",
        (interval, start, end),
    )
    table = np.fromiter(chain.from_iterable(rows), np.int64, 4 * len(rows)).reshape(-1, 4)
    if symbol_ids is not None and not few:
        table = table[np.isin(table[:, 0], np.asarray(symbol_ids, np.int64))]
    held = np.stack((spans.place(table[:, 0], table[:, 1]), spans.place(table[:, 0], table[:, 2])), axis=1)
    return Owners(held, table[:, 3])


def days_in(transaction: Transaction, file: ColdFile) -> Int64s:
    """Return the days that a file holds, of all its symbols, on the common line (n, 2)."""
    rows = transaction.execute(
        "SELECT symbol_id, start_time, end_time FROM file_symbols WHERE file_id = ? ORDER BY symbol_id, start_time",
        (file.file_id,),
    )
    table = np.fromiter(chain.from_iterable(rows), np.int64, 3 * len(rows)).reshape(-1, 3)
    return np.stack((spans.place(table[:, 0], table[:, 1]), spans.place(table[:, 0], table[:, 2])), axis=1)


def registered(transaction: Transaction, wanted: Sequence[ColdFile]) -> bool:
    """Tell whether all these files are part of the store."""
    held = {
        row
        for file in wanted
        for row in transaction.execute("SELECT file_id, path FROM files WHERE file_id = ?", (file.file_id,))
    }
    return held == {(file.file_id, file.path) for file in wanted}


def swap(transaction: Transaction, new: Sequence[NewFile], old: Sequence[ColdFile]) -> list[ColdFile]:
    """Make files part of the store in place of others, which stay for a while for their readers.

    To be called under `FILES_LOCK` and the interval's lock.

    Returns
    -------
    list[ColdFile]
        The new files with their numbers.
    """
    if not registered(transaction, old):
        raise MarketError(
            "a file to be replaced is no part of the store any more; the change is undone",
            where=", ".join(file.path for file in old),
            remedy="run this again",
        )
    [(last,)] = transaction.execute(
        "SELECT coalesce(max(file_id), -1) FROM files"
    )  # a new file, a new number
    for file in old:
        transaction.run("DELETE FROM file_symbols WHERE file_id = ?", (file.file_id,))
        transaction.run("DELETE FROM files WHERE file_id = ?", (file.file_id,))
    placed = [replace(item.file, file_id=last + 1 + at) for at, item in enumerate(new)]
    transaction.delete(RETIRED, [(file.path,) for file in placed])
    transaction.upsert(FILES, [tuple(getattr(file, name) for name in FILES.columns) for file in placed])
    for file, item in zip(placed, new, strict=True):
        _own(transaction, file, item.owned)
    kept = {file.path for file in placed}
    transaction.upsert(RETIRED, [(file.path, now_ms()) for file in old if file.path not in kept])
    return placed


def _own(transaction: Transaction, file: ColdFile, owned: Int64s) -> None:
    symbol_ids, start = spans.unplace(owned[:, 0])
    _, end = spans.unplace(owned[:, 1])
    keys = zip(symbol_ids.tolist(), start.tolist(), end.tolist(), strict=True)
    rows = [(file.kline_interval, *key, file.file_id) for key in keys]
    if transaction.upsert(FILE_SYMBOLS, rows, rewrite=False) != len(rows):
        raise MarketError(
            "a day of a symbol would be in two files; the change is undone",
            where=f"{file.kline_interval} {file.path}",
            remedy="let nothing but klinecast write into the store's tables, then run this again",
        )


def retired(transaction: Transaction) -> dict[str, int]:
    """Return when each superseded file was superseded (ms)."""
    return dict(transaction.execute("SELECT path, retired_at FROM retired_files"))


def now_ms() -> int:
    """Return this machine's time, ms since the epoch; it dates files, never bars."""
    return time.time_ns() // 1_000_000
