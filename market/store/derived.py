"""Which bars were derived from finer ones and not yet confirmed: a stretch per symbol, interval and UTC day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from market.intervals import DAY_MS, interval_ms
from market.store import coverage, spans
from market.store.bars import Bars
from market.store.database import Row, Transaction
from market.store.schema import DERIVED
from market.store.symbols import require_text

DERIVED_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "kline_interval": pl.String(),
        "day": pl.Int64(),
        "start_time": pl.Int64(),
        "end_time": pl.Int64(),
        "checked_time": pl.Int64(),
    }
)
"""Derived bars open in [start_time, end_time) of the UTC day that begins at `day`; `checked_time` (ms) is when the
exchange was last asked about them, 0 if never."""


def unstored(transaction: Transaction, interval: str, bars: Bars) -> Bars:
    """Return those bars whose key is not stored: what an exchange has said is never overwritten by a derived bar."""
    if not len(bars):
        return bars
    start, end = int(bars["open_time"][0]), int(bars["open_time"][-1]) + interval_ms(interval)
    ids = np.unique(bars["symbol_id"]).tolist()
    covered = coverage.load(transaction, interval, ids, start, end)
    return bars[spans.index_of(covered, spans.place(bars["symbol_id"], bars["open_time"])) < 0]


def record(transaction: Transaction, interval: str, bars: Bars) -> None:
    """Note that these bars were derived; stretches of a day grow together."""
    if not len(bars):
        return
    length = interval_ms(interval)
    days = bars["open_time"] // DAY_MS * DAY_MS
    known = {
        (symbol_id, day): (start, end)
        for symbol_id, day, start, end in transaction.execute(
            "SELECT symbol_id, day, start_time, end_time FROM derived"
            " WHERE kline_interval = ? AND day >= ? AND day <= ?",
            (interval, int(days.min()), int(days.max())),
        )
    }
    for symbol_id, day, at in zip(
        bars["symbol_id"].tolist(), days.tolist(), bars["open_time"].tolist(), strict=True
    ):
        start, end = known.get((symbol_id, day), (at, at))
        known[symbol_id, day] = min(start, at), max(end, at + length)
    touched = dict.fromkeys(zip(bars["symbol_id"].tolist(), days.tolist(), strict=True))
    transaction.upsert(DERIVED, [(interval, *key, *known[key], 0) for key in touched])


def settle(
    transaction: Transaction, interval: str, confirmed: Sequence[Row], asked: Sequence[Row], now: int
) -> None:
    """Take confirmed spans (symbol_id, day, start, end) out of the stretches; note of others that they were asked for.

    A stretch that has grown since it was read keeps what was added: another ingest may have derived more of the day.
    """
    for symbol_id, day, start, end in confirmed:
        for first, last, checked in transaction.execute(
            "SELECT start_time, end_time, checked_time FROM derived"
            " WHERE kline_interval = ? AND symbol_id = ? AND day = ?",
            (interval, symbol_id, day),
        ):
            rest = (max(first, end) if start <= first else first, min(last, start) if end >= last else last)
            transaction.delete(DERIVED, [(interval, symbol_id, day)])
            if rest[0] < rest[1]:
                transaction.upsert(DERIVED, [(interval, symbol_id, day, *rest, checked)])
    for symbol_id, day, start, end in asked:
        transaction.execute(
            "UPDATE derived SET checked_time = ?"
            " WHERE kline_interval = ? AND symbol_id = ? AND day = ? AND start_time >= ? AND end_time <= ?",
            (now, interval, symbol_id, day, start, end),
        )


def read(transaction: Transaction, interval: str | None, symbols: Sequence[str] | None) -> pl.DataFrame:
    """Return the stretches by interval, symbol and day (`DERIVED_SCHEMA`)."""
    if interval is not None:
        interval_ms(interval)
    require_text(symbols or ())
    chosen, parameters = ("", ()) if interval is None else (" WHERE kline_interval = ?", (interval,))
    rows = transaction.execute(
        "SELECT symbol, kline_interval, day, start_time, end_time, checked_time"  # noqa: S608 - text of ours
        f" FROM derived JOIN symbols USING (symbol_id){chosen} ORDER BY kline_interval, symbol, day",
        parameters,
    )
    frame = pl.DataFrame(rows, schema=DERIVED_SCHEMA, orient="row")
    return frame if symbols is None else frame.filter(pl.col("symbol").is_in(list(symbols)))
