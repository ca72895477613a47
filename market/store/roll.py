"""The roll: whole days of hot bars become Parquet files; and what a roll left behind is cleared away."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from market.errors import MarketError
from market.store import cold
from market.store.bars import Bars, overlay
from market.store.cold import DAY_MS, ColdFiles, DayFile
from market.store.database import Database, Transaction
from market.store.schema import RETIRED
from market.store.spans import TIME_LIMIT
from market.store.symbols import SymbolBook
from market.store.writing import write_lock

_LOG = logging.getLogger(__name__)
_TRIES: Final = 3
FILES_LOCK: Final = "files"
"""Held while files are registered or removed: none may go between being written and registered."""


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
class _Day:
    """A day as one snapshot showed it: its file, if it was rolled before, its hot bars and its version."""

    file: DayFile | None
    version: int
    hot: Bars


def roll(database: Database, book: SymbolBook, files: ColdFiles, before_ms: int) -> RollReport:
    """Move the hot bars of every day that ends at or before `before_ms` into Parquet files."""
    written: list[DayFile] = []
    rows = 0
    for interval, day in _hot_days(database, before_ms):
        for attempt in range(_TRIES + 1):
            moved = _roll_day(database, book, files, interval, day, locked=attempt == _TRIES)
            if moved is not None:
                file, count = moved
                written += [file] if file else []
                rows += count
                break
            _LOG.info("%s %d changed while its file was written; again", interval, day)
    return RollReport(len(written), rows, sum(file.bytes for file in written))


def _hot_days(database: Database, before_ms: int) -> list[tuple[str, int]]:
    """Return interval and start of each whole day that has hot bars, by steps along the key."""
    days = []
    with database.read() as transaction:
        intervals = transaction.execute(
            "SELECT DISTINCT kline_interval FROM coverage ORDER BY kline_interval"
        )
        for (interval,) in intervals:
            at = 0
            while True:
                [(first,)] = transaction.execute(
                    "SELECT min(open_time) FROM klines_hot WHERE kline_interval = ? AND open_time >= ?",
                    (interval, at),
                )
                if first is None or (at := first - first % DAY_MS + DAY_MS) > before_ms:
                    break
                days.append((interval, at - DAY_MS))
    return days


def _roll_day(
    database: Database, book: SymbolBook, files: ColdFiles, interval: str, day: int, *, locked: bool
) -> tuple[DayFile | None, int] | None:
    """Roll one day; None if it changed meanwhile, no file without hot bars. `locked` keeps writers out."""
    if locked:
        with database.write(write_lock(interval), FILES_LOCK) as transaction:
            seen = _look(transaction, interval, day)
            if not len(seen.hot):
                return None, 0
            file = _publish(transaction, book, files, interval, day, seen)
            return _commit(transaction, files, file, seen)
    with database.read() as transaction:
        seen = _look(transaction, interval, day)
        if not len(seen.hot):  # another process rolled it
            return None, 0
        file = _publish(transaction, book, files, interval, day, seen)
    with database.write(write_lock(interval), FILES_LOCK) as transaction:
        now = _look(transaction, interval, day, with_bars=False)
        if (now.file, now.version) != (seen.file, seen.version):
            return None
        return _commit(transaction, files, file, seen)


def _look(transaction: Transaction, interval: str, day: int, *, with_bars: bool = True) -> _Day:
    found = cold.files(transaction, interval, day, day + DAY_MS)
    version = transaction.execute(
        "SELECT version FROM day_versions WHERE kline_interval = ? AND start_time = ?", (interval, day)
    )
    hot = transaction.read_bars(interval, day, day + DAY_MS if with_bars else day)
    return _Day(found[0] if found else None, version[0][0] if version else 0, hot)


def _publish(
    transaction: Transaction, book: SymbolBook, files: ColdFiles, interval: str, day: int, seen: _Day
) -> DayFile:
    names = book.names_in(transaction)
    bars = seen.hot
    if seen.file is not None:
        ids = {name: number for number, name in names.items()}
        bars = overlay(files.read([seen.file], ids, day, day + DAY_MS), bars)
    return files.publish(interval, day, bars, names)


def _commit(
    transaction: Transaction, files: ColdFiles, file: DayFile, seen: _Day
) -> tuple[DayFile | None, int] | None:
    """Register the file and delete its hot bars, unless a cleaning took a file that waited too long."""
    if not (files.folder / file.path).is_file():
        return None
    cold.register(transaction, file, seen.file)
    deleted = transaction.delete_bars(file.kline_interval, file.start_time, file.end_time)
    if deleted != len(seen.hot):
        raise MarketError(
            f"{deleted} hot bars where {len(seen.hot)} were rolled; the roll is undone",
            where=f"{file.kline_interval} {file.path}",
            remedy="let nothing but klinecast write into the store's tables, then roll again",
        )
    return file, deleted


def clean(database: Database, files: ColdFiles, grace_ms: int) -> list[Path]:
    """Remove files that are no part of the store and that no reader can still need.

    Superseded files go `grace_ms` after they were superseded, files that a dead process left behind when they
    have not been touched for as long.

    Returns
    -------
    list[Path]
        What was removed.
    """
    oldest = cold.now_ms() - grace_ms
    with database.read() as transaction:
        registered = {file.path for file in cold.files(transaction, None, 0, TIME_LIMIT)}
        retired = _retired(transaction)
    doubtful = [path for path in files.on_disk() if _relative(files, path) not in registered]
    if not retired and not any(_touched(path) < oldest for path in doubtful):
        return []
    removed = []
    with database.write(FILES_LOCK) as transaction:
        registered = {file.path for file in cold.files(transaction, None, 0, TIME_LIMIT)}
        retired = _retired(transaction)
        for path in doubtful:
            name = _relative(files, path)
            since = retired[name] if name in retired else _touched(path)
            if name not in registered and since < oldest:
                path.unlink(missing_ok=True)
                removed.append(path)
        transaction.delete(RETIRED, [(name,) for name, since in retired.items() if since < oldest])
    return removed


def _retired(transaction: Transaction) -> dict[str, int]:
    """Return when each superseded file was superseded (ms)."""
    return dict(transaction.execute("SELECT path, retired_at FROM retired_files"))


def _relative(files: ColdFiles, path: Path) -> str:
    return path.relative_to(files.folder).as_posix()


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime * 1_000
    except FileNotFoundError:
        return float("inf")
