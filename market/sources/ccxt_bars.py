"""From ccxt's six numbers a bar to pages: exact, in order, and without the bar that is still open."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import orjson
import polars as pl

from market.klines import KLINE_SCHEMA
from market.wire import KlinePage, MalformedRow

_NAMES: Final = ("open", "high", "low", "close", "volume")
_FIELDS: Final = 1 + len(_NAMES)


def page_of(rows: Iterable[Any]) -> KlinePage:
    """Read rows of [open time, open, high, low, close, volume]; what else a bar has is null."""
    sent = list(rows)
    faults = [_fault(row) for row in sent]
    malformed = tuple(
        MalformedRow(orjson.dumps(row, default=str).decode(), fault, open_time(row), position)
        for position, (row, fault) in enumerate(zip(sent, faults, strict=True))
        if fault is not None
    )
    readable = [row for row, fault in zip(sent, faults, strict=True) if fault is None]
    columns: dict[str, list[Any]] = {"open_time": [row[0] for row in readable]}
    columns |= {name: [float(row[at]) for row in readable] for at, name in enumerate(_NAMES, start=1)}
    frame = pl.DataFrame(
        {name: columns.get(name, [None] * len(readable)) for name in KLINE_SCHEMA}, schema=KLINE_SCHEMA
    )
    return KlinePage(frame, malformed, sent)


def open_time(row: Any) -> int | None:
    """Return a row's open time, ms; None if it has none."""
    first = row[0] if isinstance(row, list) and row else None
    return first if type(first) is int and 0 <= first < 2**63 else None


def _fault(row: Any) -> str | None:
    if not isinstance(row, list) or len(row) < _FIELDS:
        return f"a row is a list of {_FIELDS} fields"
    if open_time(row) is None:
        return "open_time is not a whole number"
    for name, value in zip(_NAMES, row[1:], strict=False):
        if type(value) not in (int, float) or not math.isfinite(value):
            return f"{name} is not a finite number"
    return None
