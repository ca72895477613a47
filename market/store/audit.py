"""Looking over a store: do the files hold what the manifest says, and the bars what the coverage says."""

from __future__ import annotations

import numpy as np
import polars as pl

from market.errors import MarketError
from market.intervals import interval_ms
from market.store import coverage, manifest, reading, spans
from market.store.bars import unpack
from market.store.cold import ColdFiles
from market.store.database import Database
from market.store.manifest import ColdFile, Owners
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
            states.append((snapshot, covered, manifest.owners(transaction, interval, 0, TIME_LIMIT)))
    for snapshot, covered, owners in states:
        broken = [fault for file in snapshot.files if (fault := _file_fault(files, file))]
        broken = broken or _manifest_faults(snapshot, files, owners)
        faults += broken or _coverage_faults(snapshot, files, covered)
    return faults


def _file_fault(files: ColdFiles, file: ColdFile) -> str | None:
    try:
        found = files.sha256_of(file)
    except MarketError as error:
        return f"{error.where}: {error.what}"
    where = files.objects.uri(file.path)
    return None if found == file.sha256 else f"{where}: SHA-256 is {found}, the manifest has {file.sha256}"


def _manifest_faults(snapshot: Snapshot, files: ColdFiles, owners: Owners) -> list[str]:
    """Check that each file holds as many bars as it should, of days that the manifest says it holds, and only it."""
    faults = []
    if (owners.spans[1:, 0] < owners.spans[:-1, 1]).any():
        faults.append(f"{snapshot.interval}: the manifest has a day of a symbol in two files")
    ids = {name: number for number, name in snapshot.names.items()}
    for file in snapshot.files:
        keys = files.collect(files.scan([file]).select("symbol", "open_time"), [file])
        numbers = keys["symbol"].replace_strict(ids, return_dtype=pl.Int64).to_numpy()
        holders = owners.of(spans.place(numbers, keys["open_time"].to_numpy()))
        if keys.height != file.rows or (holders != file.file_id).any():
            faults.append(f"{files.objects.uri(file.path)}: holds other bars than the manifest says")
    return faults


def _coverage_faults(snapshot: Snapshot, files: ColdFiles, covered: Int64s) -> list[str]:
    ids = {name: number for number, name in snapshot.names.items()}
    hot = unpack(snapshot.hot, snapshot.names, snapshot.interval)
    parts = [*reading.cold_parts(snapshot, files, hot), hot.lazy()]
    keys = files.collect(pl.concat(parts).select("symbol", "open_time"), snapshot.files)
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
