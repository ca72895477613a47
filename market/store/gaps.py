"""The gap ledger: every absent span with its cause, shrunk in the transaction that stores bars inside it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl

from market.errors import MarketError
from market.intervals import grid_origin, interval_ms
from market.store import coverage, spans
from market.store.database import Row, Transaction
from market.store.schema import GAPS
from market.store.spans import Int64s
from market.store.symbols import require_text

GAP_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "start_time": pl.Int64(),
        "end_time": pl.Int64(),
        "cause": pl.String(),
        "checked_time": pl.Int64(),
    }
)
"""A span [start_time, end_time) of open times without bars, why, and when a source was last asked (ms).

A frame may have a further column `sources`: the kinds of sources that were asked and had none of these bars, joined by
commas ("rest", "archive", "archive,rest", "ccxt"). Without it they are `DEFAULT_SOURCE`. So may it have `found_time`,
when a source was first asked; without it that is `checked_time`.
"""

DEFAULT_SOURCE: Final = "rest"

LEDGER_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "kline_interval": pl.String(),
        "start_time": pl.Int64(),
        "end_time": pl.Int64(),
        "cause": pl.String(),
        "checked_time": pl.Int64(),
        "sources": pl.String(),
        "found_time": pl.Int64(),
    }
)
"""The ledger as it is read: as `GAP_SCHEMA` with `sources`, of all intervals; `found_time` (ms) is when a source was
first asked, equal to `checked_time` for a gap that was seen once."""


class Ledger:
    """Rows of the ledger as a transaction read them: spans on the common line, causes with times and sources."""

    def __init__(self, rows: list[Row]) -> None:
        table = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3)
        order = np.lexsort((table[:, 1], table[:, 0]))
        table = table[order]
        self.spans = np.stack(
            (spans.place(table[:, 0], table[:, 1]), spans.place(table[:, 0], table[:, 2])), axis=1
        )
        self.notes = [tuple(rows[i][3:]) for i in order]


def load(transaction: Transaction, interval: str, start: int, end: int) -> Ledger:
    """Return the ledgered gaps of an interval that overlap [start, end)."""
    return Ledger(
        transaction.execute(
            "SELECT symbol_id, start_time, end_time, cause, checked_time, sources, found_time FROM gaps"
            " WHERE kline_interval = ? AND end_time > ? AND start_time < ?",
            (interval, start, end),
        )
    )


def heal(transaction: Transaction, interval: str, found: Int64s, start: int, end: int) -> None:
    """Take spans, which now have bars and lie in [start, end), out of the ledger."""
    ledger = load(transaction, interval, start, end)
    if len(ledger.spans):
        _cut(transaction, interval, ledger, found)


def record(transaction: Transaction, interval: str, gaps: list[Row], symbol_ids: list[int]) -> None:
    """Write absent spans (symbol_id, start, end, cause, checked_time, sources, found_time) into the ledger.

    What the ledger said before about the same times is replaced, but for the sources that were asked and, where the
    cause is the same, when it was found: of a span that an earlier row held whole they are kept. Where bars are stored
    nothing is recorded.
    """
    if not gaps:
        return
    start, end = min(gap[1] for gap in gaps), max(gap[2] for gap in gaps)
    stored = coverage.load(transaction, interval, symbol_ids, start, end)
    for batch in _disjoint(gaps):
        new, old = Ledger(batch), load(transaction, interval, start, end)
        _remember(new, old)
        _cut(transaction, interval, old, new.spans)
        pieces, origin = spans.subtract(new.spans, stored)
        transaction.upsert(GAPS, _rows(interval, pieces, origin, new))


def _remember(new: Ledger, old: Ledger) -> None:
    holder = spans.index_of(old.spans, new.spans[:, 0])
    for at in np.flatnonzero(holder >= 0):
        if old.spans[holder[at], 1] >= new.spans[at, 1]:
            cause, checked, sources, found = new.notes[at]
            cause_before, _, sources_before, found_before = old.notes[holder[at]]
            first = min(found, found_before) if cause == cause_before else found
            new.notes[at] = (cause, checked, _both(sources_before, sources), first)


def _both(sources: str, more: str) -> str:
    return ",".join(sorted({*sources.split(","), *more.split(",")}))


def _disjoint(gaps: list[Row]) -> list[list[Row]]:
    """Part gaps into batches without overlap, in the order given: of two that overlap the later one holds."""
    in_order = sorted(gaps, key=lambda gap: (gap[0], gap[1]))
    overlap = any(a[0] == b[0] and b[1] < a[2] for a, b in pairwise(in_order))
    return [[gap] for gap in gaps] if overlap else [gaps]


def _cut(transaction: Transaction, interval: str, ledger: Ledger, holes: Int64s) -> None:
    pieces, origin = spans.subtract(ledger.spans, spans.merge(holes))
    if len(pieces) == len(ledger.spans) and np.array_equal(pieces, ledger.spans):
        return
    symbol_ids, start = spans.unplace(ledger.spans[:, 0])
    transaction.delete(
        GAPS, [(interval, *key) for key in zip(symbol_ids.tolist(), start.tolist(), strict=True)]
    )
    transaction.upsert(GAPS, _rows(interval, pieces, origin, ledger))


def _rows(interval: str, pieces: Int64s, origin: Int64s, ledger: Ledger) -> list[Row]:
    symbol_ids, start = spans.unplace(pieces[:, 0])
    _, end = spans.unplace(pieces[:, 1])
    keys = zip(symbol_ids.tolist(), start.tolist(), end.tolist(), origin.tolist(), strict=True)
    return [(interval, symbol_id, first, last, *ledger.notes[row]) for symbol_id, first, last, row in keys]


def absent(
    stored: Int64s, ledger: Ledger, symbol_ids: list[int], start: int, end: int, recheck_before: int | None
) -> dict[int, list[tuple[int, int]]]:
    """Return for each symbol number the spans of [start, end) that are neither stored nor ledgered."""
    ids = np.sort(np.asarray(symbol_ids, np.int64))
    wanted = np.stack(
        (spans.place(ids, np.full(len(ids), start)), spans.place(ids, np.full(len(ids), end))), axis=1
    )
    checked = np.array([note[1] for note in ledger.notes], np.int64)
    settled = ledger.spans if recheck_before is None else ledger.spans[checked >= recheck_before]
    rest, _ = spans.subtract(wanted, spans.merge(np.concatenate((stored, settled))))
    found: dict[int, list[tuple[int, int]]] = {symbol_id: [] for symbol_id in symbol_ids}
    owners, first = spans.unplace(rest[:, 0])
    _, last = spans.unplace(rest[:, 1])
    for owner, begin, stop in zip(owners.tolist(), first.tolist(), last.tolist(), strict=True):
        found[owner].append((begin, stop))
    return found


def accept(frame: pl.DataFrame, interval: str) -> pl.DataFrame:
    """Return gaps in canonical form; `sources` and `found_time` may be left out.

    Raises
    ------
    MarketError
        If a column is missing or of a wrong type, holds nulls, or a span is empty, off the grid or out of
        range.
    """
    step, origin = interval_ms(interval), grid_origin(interval)
    where, remedy = f"gap ledger of {interval}", f"give columns {', '.join(GAP_SCHEMA)} without nulls"
    if missing := [name for name in GAP_SCHEMA if name not in frame.columns]:
        raise MarketError(f"column {', '.join(missing)} is missing", where=where, remedy=remedy)
    if "sources" not in frame.columns:
        frame = frame.with_columns(sources=pl.lit(DEFAULT_SOURCE))
    if "found_time" not in frame.columns:
        frame = frame.with_columns(found_time="checked_time")
    try:
        good = frame.select(
            *(pl.col(name).cast(kind) for name, kind in GAP_SCHEMA.items()),
            pl.col("sources").cast(pl.String),
            pl.col("found_time").cast(pl.Int64),
        )
    except pl.exceptions.PolarsError as error:
        raise MarketError(f"wrong type: {str(error).splitlines()[0]}", where=where, remedy=remedy) from error
    start, stop = pl.col("start_time"), pl.col("end_time")
    off_grid = ((start - origin) % step != 0) | ((stop - origin) % step != 0)
    wrong = good.filter(
        pl.any_horizontal(pl.all().is_null())
        | (pl.col("sources") == "")
        | (start < 0)
        | (stop <= start)
        | (stop >= spans.TIME_LIMIT)
        | off_grid
    )
    if not wrong.is_empty():
        raise MarketError(
            f"{wrong.height} gaps hold nulls, name no source, are empty, out of range or off the {interval} grid",
            where=f"{where}, first {wrong.row(0)}",
            remedy="start_time is the first absent open time, end_time the one after the last",
        )
    return good


def read(transaction: Transaction, interval: str | None, symbols: Sequence[str] | None) -> pl.DataFrame:
    """Return the ledger by interval, symbol and time."""
    if interval is not None:
        interval_ms(interval)
    require_text(symbols or ())
    chosen, parameters = ("", ()) if interval is None else (" WHERE kline_interval = ?", (interval,))
    rows = transaction.execute(
        "SELECT symbol, kline_interval, start_time, end_time, cause, checked_time, sources, found_time"  # noqa: S608 - text of ours
        f" FROM gaps JOIN symbols USING (symbol_id){chosen} ORDER BY kline_interval, symbol, start_time",
        parameters,
    )
    frame = pl.DataFrame(rows, schema=LEDGER_SCHEMA, orient="row")
    return frame if symbols is None else frame.filter(pl.col("symbol").is_in(list(symbols)))
