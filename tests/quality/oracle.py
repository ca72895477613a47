"""What must become of recorded rows, worked out row by row: a second opinion that shares no code with klinecast."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

LENGTHS = {"1m": 60_000, "5m": 300_000, "30m": 1_800_000, "1h": 3_600_000}
COLUMNS = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_buy_base",
    "taker_buy_quote",
)
Row = tuple[Any, ...]


@dataclass
class Expected:
    """What one series must come to.

    Attributes
    ----------
    stored
        Rows in the order of `COLUMNS`, by open time.
    quarantined
        Rows with the reason, as (reason, row).
    ledger
        Absent spans as (start, end, cause).
    """

    stored: list[Row] = field(default_factory=list)
    quarantined: list[tuple[str, Row]] = field(default_factory=list)
    ledger: list[tuple[int, int, str]] = field(default_factory=list)


def recorded_rows(path: Path, interval: str) -> list[Row]:
    """Read a recording in the order of open times, ties as recorded.

    Amounts that it does not know are None; of a bar without volume they are zero all the same.
    """
    frame = pl.read_parquet(path)
    if "close_time" not in frame.columns:
        frame = frame.with_columns(close_time=pl.col("open_time") + (LENGTHS[interval] - 1)).with_columns(
            pl.when(pl.col("volume") == 0)
            .then(0)
            .cast(pl.Int64 if name == "trades" else pl.Float64)
            .alias(name)
            for name in COLUMNS[7:]
        )
    return sorted(frame.select(COLUMNS).iter_rows(), key=lambda row: row[0])


def expect(rows: list[Row], interval: str, start: int, now: int) -> Expected:
    """Say what an ingest of `rows` from `start` on must leave when the exchange's clock shows `now`."""
    length, found = LENGTHS[interval], Expected()
    rows = [row for row in rows if start <= row[0] and row[0] // length * length + length <= now]
    by_time: dict[int, list[Row]] = defaultdict(list)
    refused_slots = set()
    for row in rows:
        if (reason := _fault(row, interval, length)) is None:
            by_time[row[0]].append(row)
        else:
            found.quarantined.append((reason, row))
            refused_slots.add(row[0] // length * length)
    for open_time, group in sorted(by_time.items()):
        if len(set(group)) > 1:
            found.quarantined += [("contradicts another row of the same open_time", row) for row in group]
            refused_slots.add(open_time)
        else:
            found.stored.append(group[0])
            found.quarantined += [("duplicate", row) for row in group[1:]]
    found.ledger = _ledger(found.stored, refused_slots, rows, length, start, now)
    return found


def _fault(row: Row, interval: str, length: int) -> str | None:
    values = dict(zip(COLUMNS, row, strict=True))
    prices = [values[name] for name in ("open", "high", "low", "close")]
    if values["open_time"] % length:
        return f"open_time is not on the {interval} grid"
    if values["close_time"] != values["open_time"] + length - 1:
        return f"close_time is not open_time + {length - 1}"
    if not all(value is None or math.isfinite(value) for value in row):
        return "a price or amount is missing or not finite"
    if min(prices) <= 0:
        return "a price is not positive"
    if values["high"] < max(prices):
        return "high is below open, close or low"
    if values["low"] > min(prices):
        return "low is above open or close"
    return None


def _ledger(
    stored: list[Row], refused: set[int], rows: list[Row], length: int, start: int, now: int
) -> list[tuple[int, int, str]]:
    """Name the cause of every bar from `start` on that is not stored, and join neighbours of one cause.

    A bar that opened less than five minutes, or less than two intervals, ago may still come: none of the ledger's.
    What lies after the last row lies after the end of a symbol, since no recording stops while its exchange is down.
    """
    listing, last = (rows[0][0], rows[-1][0]) if rows else (now, now)
    held = {row[0] for row in stored}
    spans: list[tuple[int, int, str]] = []
    for slot in range(-(-start // length) * length, now, length):
        if slot in held or slot >= now - max(300_000, 2 * length):
            continue
        cause = "before_listing" if slot < listing else "not_listed_anymore" if slot > last else "outage"
        cause = "refused_rows" if slot in refused else cause
        if spans and spans[-1][1] == slot and spans[-1][2] == cause:
            spans[-1] = (spans[-1][0], slot + length, cause)
        else:
            spans.append((slot, slot + length, cause))
    return spans


def joined(ledger: pl.DataFrame) -> list[tuple[int, int, str]]:
    """Return the rows of one series' ledger, those that touch and have one cause as one: pages may part them."""
    rows: list[tuple[int, int, str]] = []
    for start, end, cause in ledger.sort("start_time").select("start_time", "end_time", "cause").iter_rows():
        if rows and rows[-1][1] == start and rows[-1][2] == cause:
            rows[-1] = (rows[-1][0], end, cause)
        else:
            rows.append((start, end, cause))
    return rows
