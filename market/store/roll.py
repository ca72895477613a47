"""The roll: whole days of hot bars become Parquet files; and what a roll left behind is cleared away."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.errors import MarketError
from market.store import manifest, spans
from market.store.bars import Bars, unpack
from market.store.cold import FILE_ROWS, ColdFiles
from market.store.database import Database, Transaction
from market.store.manifest import DAY_MS, FILES_LOCK, UNREGISTERED, ColdFile, NewFile
from market.store.schema import HOT_BARS, RETIRED
from market.store.spans import TIME_LIMIT, Int64s
from market.store.symbols import SymbolBook
from market.store.writing import write_lock

_LOG = logging.getLogger(__name__)
_TRIES: Final = 3


@dataclass(frozen=True)
class RollReport:
    """What a roll did.

    Parameters
    ----------
    files : int
        Parquet files that were written and registered.
    rows : int
        Hot bars that moved into them.
    bytes : int
        Size of these files.
    """

    files: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class _Job:
    """Hot bars that go into one file: those of days that `file` holds, and of days that none holds yet.

    Parameters
    ----------
    file : ColdFile or None
        The file that is written anew with these bars; None where a new one is made.
    start, end : int
        Whole days (ms).
    free : bool
        Whether bars of days that no file holds go in too.
    """

    interval: str
    file: ColdFile | None
    start: int
    end: int
    free: bool


@dataclass(frozen=True)
class _Seen:
    """A job's bars as one snapshot showed them, who held their days, and the versions of the days."""

    hot: Bars
    alone: bool
    versions: dict[int, int]


def roll(database: Database, book: SymbolBook, files: ColdFiles, before_ms: int) -> RollReport:
    """Move the hot bars of every day that ends at or before `before_ms` into Parquet files."""
    written: list[ColdFile] = []
    rows = 0
    for interval, days in _hot_days(database, before_ms):
        for job in _jobs(database, interval, days):
            for attempt in range(_TRIES + 1):
                moved = _do(database, book, files, job, locked=attempt == _TRIES)
                if moved is not None:
                    file, count = moved
                    written += [file] if file else []
                    rows += count
                    break
                _LOG.info("%s %d changed while its file was written; again", interval, job.start)
    return RollReport(len(written), rows, sum(file.bytes for file in written))


def _hot_days(database: Database, before_ms: int) -> Iterator[tuple[str, list[int]]]:
    """Give each interval with the starts of the whole days that have hot bars, by steps along the key."""
    with database.read() as transaction:
        rows = transaction.execute("SELECT DISTINCT kline_interval FROM coverage ORDER BY kline_interval")
        found = {interval: _days(transaction, interval, before_ms) for (interval,) in rows}
    yield from ((interval, days) for interval, days in found.items() if days)


def _days(transaction: Transaction, interval: str, before_ms: int) -> list[int]:
    days: list[int] = []
    at = 0
    while True:
        [(first,)] = transaction.execute(
            "SELECT min(open_time) FROM klines_hot WHERE kline_interval = ? AND open_time >= ?",
            (interval, at),
        )
        if first is None or (at := first - first % DAY_MS + DAY_MS) > before_ms:
            return days
        days.append(at - DAY_MS)


def _jobs(database: Database, interval: str, days: list[int]) -> list[_Job]:
    """Say which files to write: those that hold corrected days once each, then one for each day's other bars."""
    wide: dict[int, list[int]] = {}
    jobs = []
    with database.read() as transaction:
        known = {
            file.file_id: file for file in manifest.files(transaction, interval, days[0], days[-1] + DAY_MS)
        }
        for day in days:
            holders = _holders(transaction, interval, day) if known else []
            own = [known[i] for i in holders if i >= 0 and _is_day_file(known[i])]
            for number in holders:
                if number >= 0 and known[number] not in own:
                    wide.setdefault(number, []).append(day)
            free = UNREGISTERED in holders or not known
            # A day's own small file takes in the rest of its day: late symbols do not make many files of a day.
            twin = next(
                (file for file in known.values() if file.start_time == day and _is_day_file(file)), None
            )
            jobs += [_Job(interval, file, day, day + DAY_MS, free and file is twin) for file in own]
            if free and twin not in own:
                jobs.append(_Job(interval, twin, day, day + DAY_MS, free=True))
    return [_Job(interval, known[i], at[0], at[-1] + DAY_MS, free=False) for i, at in wide.items()] + jobs


def _is_day_file(file: ColdFile) -> bool:
    return file.end_time - file.start_time == DAY_MS and file.rows < FILE_ROWS // 2


def _holders(transaction: Transaction, interval: str, day: int) -> list[int]:
    """Return the files that hold a day of symbols with hot bars in it; `UNREGISTERED` for bars of no file."""
    hot = transaction.read_bars(interval, day, day + DAY_MS)
    owners = manifest.owners(transaction, interval, day, day + DAY_MS)
    found: list[int] = np.unique(owners.of(_places(hot))).tolist()
    return found


def _places(bars: Bars) -> Int64s:
    return spans.place(bars["symbol_id"], bars["open_time"])


def _do(
    database: Database, book: SymbolBook, files: ColdFiles, job: _Job, *, locked: bool
) -> tuple[ColdFile | None, int] | None:
    """Write one file; None if its bars changed meanwhile, no file without hot bars. `locked` keeps writers out."""
    if locked:
        with database.write(write_lock(job.interval), FILES_LOCK) as transaction:
            if (seen := _look(transaction, job)) is None or not len(seen.hot):
                return None, 0
            return _commit(transaction, files, _publish(transaction, book, files, job, seen), job, seen)
    with database.read() as transaction:
        if (seen := _look(transaction, job)) is None or not len(seen.hot):  # another process rolled it
            return None, 0
        new = _publish(transaction, book, files, job, seen)
    with database.write(write_lock(job.interval), FILES_LOCK) as transaction:
        if _versions(transaction, job) != seen.versions or not _still(transaction, job, seen):
            return None
        return _commit(transaction, files, new, job, seen)


def _look(transaction: Transaction, job: _Job) -> _Seen | None:
    """Return the job's hot bars; None if its file is no part of the store any more: the next roll sees to it."""
    if job.file is not None and not manifest.registered(transaction, [job.file]):
        return None
    hot = transaction.read_bars(job.interval, job.start, job.end)
    mine = _mine(transaction, job, hot)
    return _Seen(hot[mine], bool(mine.all()), _versions(transaction, job))


def _mine(transaction: Transaction, job: _Job, hot: Bars) -> NDArray[np.bool_]:
    holders = manifest.owners(transaction, job.interval, job.start, job.end).of(_places(hot))
    mine = holders == UNREGISTERED if job.free else np.zeros(len(hot), bool)
    return mine if job.file is None else mine | (holders == job.file.file_id)


def _still(transaction: Transaction, job: _Job, seen: _Seen) -> bool:
    """Tell whether the bars that were seen still belong to this job: no file has come or gone for their days."""
    if job.file is not None and not manifest.registered(transaction, [job.file]):
        return False
    return bool(_mine(transaction, job, seen.hot).all())


def _versions(transaction: Transaction, job: _Job) -> dict[int, int]:
    rows = transaction.execute(
        "SELECT start_time, version FROM day_versions"
        " WHERE kline_interval = ? AND start_time >= ? AND start_time < ?",
        (job.interval, job.start, job.end),
    )
    return dict(rows)


def _publish(transaction: Transaction, book: SymbolBook, files: ColdFiles, job: _Job, seen: _Seen) -> NewFile:
    names = book.names_in(transaction)
    frame = unpack(seen.hot, names, job.interval)
    if job.file is not None:
        keys = ["symbol", "open_time"]
        files.require_intact([job.file])
        below = files.collect(files.scan([job.file]).select(frame.columns), [job.file])
        frame = pl.concat([frame, below.join(frame.select(keys), on=keys, how="anti")])
    return files.publish(
        job.interval, frame.sort("symbol", "open_time"), {name: number for number, name in names.items()}
    )


def _commit(
    transaction: Transaction, files: ColdFiles, new: NewFile, job: _Job, seen: _Seen
) -> tuple[ColdFile | None, int] | None:
    """Register the file and delete its hot bars, unless a cleaning took a file that waited too long."""
    if not files.published([new]):
        return None
    [file] = manifest.swap(transaction, [new], [job.file] if job.file else [])
    if not seen.alone:
        delete_hot(transaction, job.interval, seen.hot)
        return file, len(seen.hot)
    deleted = transaction.delete_bars(job.interval, job.start, job.end)
    if deleted != len(seen.hot):
        raise MarketError(
            f"{deleted} hot bars where {len(seen.hot)} were rolled; the roll is undone",
            where=f"{file.kline_interval} {file.path}",
            remedy="let nothing but klinecast write into the store's tables, then roll again",
        )
    return file, deleted


def delete_hot(transaction: Transaction, interval: str, bars: Bars) -> None:
    """Delete these hot bars, one by one."""
    keys = zip(bars["open_time"].tolist(), bars["symbol_id"].tolist(), strict=True)
    transaction.delete(HOT_BARS, [(interval, *key) for key in keys])


def clean(database: Database, files: ColdFiles, grace_ms: int) -> list[str]:
    """Remove files that are no part of the store and that no reader can still need.

    Superseded files go `grace_ms` after they were superseded, files that a dead process left behind when they
    have not been touched for as long.

    Returns
    -------
    list[str]
        The names of what was removed.
    """
    oldest = manifest.now_ms() - grace_ms
    objects = files.objects
    with database.read() as transaction:
        registered = {file.path for file in manifest.files(transaction, None, 0, TIME_LIMIT)}
        retired = manifest.retired(transaction)
    doubtful = [item for item in objects.list() if _is_ours(item.name) and item.name not in registered]
    if not retired and not any(item.modified_ms < oldest for item in doubtful):
        return []
    removed = []
    with database.write(FILES_LOCK) as transaction:
        registered = {file.path for file in manifest.files(transaction, None, 0, TIME_LIMIT)}
        retired = manifest.retired(transaction)
        for item in doubtful:
            since = retired.get(item.name, item.modified_ms)
            if item.name not in registered and since < oldest:
                objects.delete(item.name)
                removed.append(item.name)
        transaction.delete(RETIRED, [(name,) for name, since in retired.items() if since < oldest])
    return removed


def _is_ours(name: str) -> bool:
    """Tell Parquet files and what a cut-off write left behind from the mark of the store and other files."""
    folder, _, file = name.rpartition("/")
    return bool(folder) and (file.endswith(".parquet") or (file.startswith(".") and file.endswith(".tmp")))
