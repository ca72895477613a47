"""Looking over a store: do the files hold what the manifest says, and the bars what the coverage says."""

from __future__ import annotations

import numpy as np
import polars as pl

from market.errors import MarketError
from market.intervals import interval_ms
from market.store import coverage, reading, spans
from market.store.cold import ColdFiles, DayFile, sha256_of
from market.store.database import Database
from market.store.reading import Snapshot
from market.store.spans import TIME_LIMIT, Int64s
from market.store.symbols import SymbolBook


def find_faults(database: Database, book: SymbolBook, files: ColdFiles) -> list[str]:
    """Return what is wrong, one line each; reads every file and every hot bar."""
    faults: list[str] = []
    with database.read() as transaction:
        states = []
        for interval in coverage.intervals(transaction):
            snapshot = reading.look(transaction, book, interval)
            covered = coverage.load(transaction, interval, sorted(snapshot.names), 0, TIME_LIMIT)
            states.append((snapshot, covered))
    for snapshot, covered in states:
        broken = [fault for file in snapshot.files if (fault := _file_fault(files, file))]
        faults += broken or _coverage_faults(snapshot, files, covered)
    return faults


def _file_fault(files: ColdFiles, file: DayFile) -> str | None:
    try:
        path = files.locate(file)
    except MarketError as error:
        return f"{error.where}: {error.what}"
    found = sha256_of(path)
    return None if found == file.sha256 else f"{path}: SHA-256 is {found}, the manifest has {file.sha256}"


def _coverage_faults(snapshot: Snapshot, files: ColdFiles, covered: Int64s) -> list[str]:
    ids = {name: number for number, name in snapshot.names.items()}
    keys = reading.scan(snapshot, files, None, ("symbol", "open_time")).collect()
    numbers = (
        keys["symbol"].replace_strict(ids, return_dtype=pl.Int64).to_numpy() if keys.height else np.empty(0)
    )
    places = np.sort(spans.place(numbers.astype(np.int64), keys["open_time"].to_numpy()))
    faults = []
    if len(np.unique(places)) != len(places):
        faults.append(f"{snapshot.interval}: {len(places) - len(np.unique(places))} bars are stored twice")
    held = spans.merge(spans.runs(np.unique(places), interval_ms(snapshot.interval)))
    if not np.array_equal(held, covered):
        faults.append(f"{snapshot.interval}: the coverage differs from the bars that are stored")
    return faults
