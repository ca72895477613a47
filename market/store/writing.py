"""Writing closed bars: one transaction that stores them, extends the coverage and heals the gap ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.errors import MarketError
from market.intervals import interval_ms
from market.store import coverage, gaps, manifest, revision, spans
from market.store.bars import Bars, none, overlay
from market.store.cold import ColdFiles
from market.store.database import Transaction
from market.store.manifest import DAY_MS


@dataclass(frozen=True)
class WriteResult:
    """How the rows of a write met what was stored.

    Parameters
    ----------
    rows_inserted : int
        Rows whose key was not stored.
    rows_updated : int
        Rows that replaced other values of the same key: of a closed bar, a revision.
    rows_unchanged : int
        Rows that were stored already, to the last bit.
    """

    rows_inserted: int
    rows_updated: int
    rows_unchanged: int


def write_lock(interval: str) -> str:
    """Return the name of the lock that serialises writers of an interval."""
    return f"klines {interval}"


def write_bars(
    transaction: Transaction, files: ColdFiles, interval: str, bars: Bars, symbol_ids: Mapping[str, int]
) -> WriteResult:
    """Store bars, which are sorted by open_time and symbol number, under the interval's lock."""
    if not len(bars):
        return WriteResult(0, 0, 0)
    step = interval_ms(interval)
    start, end = int(bars["open_time"][0]), int(bars["open_time"][-1]) + step
    points = spans.place(bars["symbol_id"], bars["open_time"])
    covered = coverage.load(transaction, interval, list(symbol_ids.values()), start, end)
    stored = spans.index_of(covered, points) >= 0
    new, again = bars[~stored], bars[stored]
    revised = _revised(transaction, files, interval, again, symbol_ids)
    changed = np.concatenate((new, revised))
    transaction.put_bars(interval, changed)
    if len(new):
        added = spans.runs(np.sort(points[~stored]), step)
        coverage.extend(transaction, interval, covered, added)
        gaps.heal(transaction, interval, added, start, end)
    if len(changed):
        opened = changed["open_time"]
        revision.record(transaction, interval, _days(changed), int(opened.min()), int(opened.max()) + step)
    return WriteResult(len(new), len(revised), len(again) - len(revised))


def _revised(
    transaction: Transaction, files: ColdFiles, interval: str, again: Bars, symbol_ids: Mapping[str, int]
) -> Bars:
    """Return those bars that differ from the stored ones of the same key, hot or cold."""
    if not len(again):
        return none()
    start, end = int(again["open_time"][0]), int(again["open_time"][-1]) + 1
    present = set(np.unique(again["symbol_id"]).tolist())
    symbol_ids = {name: number for name, number in symbol_ids.items() if number in present}
    stored = transaction.read_bars(interval, start, end, sorted(present))
    rolled = manifest.files(transaction, interval, start, end)
    if rolled:
        owners = manifest.owners(transaction, interval, start, end, sorted(present))
        holders = set(owners.of(spans.place(again["symbol_id"], again["open_time"])).tolist())
        rolled = [file for file in rolled if file.file_id in holders]
        stored = overlay(files.read(rolled, symbol_ids, start, end), stored)
    places = spans.place(stored["symbol_id"], stored["open_time"])
    order = np.argsort(places)
    wanted = spans.place(again["symbol_id"], again["open_time"])
    at = np.searchsorted(places, wanted, sorter=order)
    if not (held := np.isin(wanted, places)).all():
        raise MarketError(
            f"{int((~held).sum()):,} bars that the store's coverage names are not in it; nothing was changed",
            where=f"{interval}, open times {start} to {end - 1}",
            remedy="run `klinecast run verify`: it names the file that does not hold what it should",
        )
    twin = stored[order[at]]
    same = (_octets(again) == _octets(twin)).all(axis=1)
    return again[~same]


def _octets(bars: Bars) -> NDArray[np.uint8]:
    """Return the bytes of bars, (bars, 88): unlike numbers, they are equal where both are NaN."""
    return np.ascontiguousarray(bars).view(np.uint8).reshape(-1, bars.itemsize)


def _days(bars: Bars) -> list[int]:
    days: list[int] = np.unique(bars["open_time"] // DAY_MS * DAY_MS).tolist()
    return days
