"""Which bars are stored: spans per interval and symbol, kept in the transaction that writes the bars."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from market.intervals import interval_ms
from market.store import spans
from market.store.database import Row, Transaction
from market.store.schema import COVERAGE
from market.store.spans import Int64s

_IN_QUERY = 64  # beyond as many symbols, one range of the key is quicker than a look-up for each


def load(transaction: Transaction, interval: str, symbol_ids: Sequence[int], start: int, end: int) -> Int64s:
    """Return the covered spans of these symbols that touch [start, end], on the common line, (n, 2)."""
    condition, parameters = "", [interval, start, end]
    if len(symbol_ids) <= _IN_QUERY:
        condition = f" AND symbol_id IN ({', '.join(str(int(i)) for i in symbol_ids) or 'NULL'})"
    rows = transaction.execute(
        "SELECT symbol_id, start_time, end_time FROM coverage"  # noqa: S608 - whole numbers of ours
        f" WHERE kline_interval = ? AND end_time >= ? AND start_time <= ?{condition}"
        " ORDER BY symbol_id, start_time",
        parameters,
    )
    table = np.fromiter(chain.from_iterable(rows), np.int64, 3 * len(rows)).reshape(-1, 3)
    if not condition:
        table = table[np.isin(table[:, 0], np.asarray(symbol_ids, np.int64))]
    return np.stack((spans.place(table[:, 0], table[:, 1]), spans.place(table[:, 0], table[:, 2])), axis=1)


def extend(transaction: Transaction, interval: str, known: Int64s, added: Int64s) -> None:
    """Add spans to the coverage.

    Parameters
    ----------
    known : int64 (n, 2)
        All covered spans that touch an added one, as `load` returned them in this transaction.
    added : int64 (m, 2)
        Newly covered spans on the common line.
    """
    merged = spans.merge(np.concatenate((known, added)))
    at = np.minimum(np.searchsorted(known[:, 0], merged[:, 0]), max(len(known) - 1, 0))
    grown = known[at, 0] == merged[:, 0] if len(known) else np.zeros(len(merged), bool)
    ends = known[at[grown], 1]
    longer = ends != merged[grown, 1]
    gone = np.setdiff1d(known[:, 0], merged[:, 0], assume_unique=True)
    transaction.delete(COVERAGE, [(interval, *key) for key in _pairs(gone)])
    _lengthen(transaction, interval, ends[longer], merged[grown][longer, 1])
    transaction.upsert(COVERAGE, _rows(interval, merged[~grown]))


def cut(transaction: Transaction, interval: str, known: Int64s, holes: Int64s) -> None:
    """Take spans out of the coverage; `known` are all covered spans that touch them, as `load` returned them."""
    pieces, _ = spans.subtract(known, holes)
    transaction.delete(COVERAGE, [(interval, *key) for key in _pairs(known[:, 0])])
    transaction.upsert(COVERAGE, _rows(interval, pieces))


def _lengthen(transaction: Transaction, interval: str, old: Int64s, new: Int64s) -> None:
    """Move ends of spans: of all symbols that move alike, as in a sweep, in one statement."""
    symbol_ids, before = spans.unplace(old)
    _, after = spans.unplace(new)
    moves, group = np.unique(np.stack((before, after), axis=1), axis=0, return_inverse=True)
    for number, (end, then) in enumerate(moves.tolist()):
        chosen = ", ".join(map(str, symbol_ids[group.ravel() == number].tolist()))
        transaction.run(
            "UPDATE coverage SET end_time = ?"  # noqa: S608 - whole numbers of ours
            f" WHERE kline_interval = ? AND end_time = ? AND symbol_id IN ({chosen})",
            (then, interval, end),
        )


def _pairs(places: Int64s) -> list[tuple[int, int]]:
    symbol_ids, times = spans.unplace(places)
    return list(zip(symbol_ids.tolist(), times.tolist(), strict=True))


def _rows(interval: str, placed: Int64s) -> list[Row]:
    symbol_ids, start = spans.unplace(placed[:, 0])
    _, end = spans.unplace(placed[:, 1])
    return [(interval, *row) for row in zip(symbol_ids.tolist(), start.tolist(), end.tolist(), strict=True)]


def extent(transaction: Transaction, interval: str, symbol_ids: Sequence[int]) -> tuple[int, int] | None:
    """Return the first open time that is stored of these symbols, and the end of their last bar."""
    rows = transaction.execute(
        "SELECT symbol_id, min(start_time), max(end_time) FROM coverage"
        " WHERE kline_interval = ? GROUP BY symbol_id",
        (interval,),
    )
    wanted = set(symbol_ids)
    found = [row for row in rows if row[0] in wanted]
    return (min(row[1] for row in found), max(row[2] for row in found)) if found else None


def totals(transaction: Transaction, interval: str | None) -> list[Row]:
    """Return symbol, interval, number of bars, first and last open time of each symbol that has bars."""
    if interval is not None:
        interval_ms(interval)
    chosen, parameters = ("", ()) if interval is None else (" WHERE kline_interval = ?", (interval,))
    rows = transaction.execute(
        "SELECT symbol, kline_interval, sum(end_time - start_time), min(start_time), max(end_time)"  # noqa: S608
        f" FROM coverage JOIN symbols USING (symbol_id){chosen}"
        " GROUP BY symbol, kline_interval ORDER BY kline_interval, symbol",
        parameters,
    )
    result = []
    for symbol, name, length, first, end in rows:
        step = interval_ms(name)
        result.append((symbol, name, int(length) // step, first, end - step))
    return result


def intervals(transaction: Transaction) -> list[str]:
    """Return the intervals of which bars are stored."""
    return [
        name
        for (name,) in transaction.execute(
            "SELECT DISTINCT kline_interval FROM coverage ORDER BY kline_interval"
        )
    ]
