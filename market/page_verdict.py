"""What one answer settles: bars to store, rows to refuse, bars that the exchange does not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from market.ingest_plan import Request, Series, Span, clip, count_bars
from market.intervals import floor_time
from market.klines import KLINE_COLUMNS, KLINE_SCHEMA, validate
from market.page_order import OUT_OF_ORDER, out_of_order, places
from market.wire import KlinePage

REFUSED_SCHEMA = pl.Schema({"symbol": pl.String(), **KLINE_SCHEMA, "reason": pl.String(), "raw": pl.String()})
"""Refused rows: what could be read of them, why, and the row as it was sent (JSON)."""

OUTSIDE = "outside the span that was asked for"
"""Reason for the quarantine."""


@dataclass(frozen=True, slots=True)
class Absence:
    """The bars that an answer did not hold, and what it says about the reason.

    Attributes
    ----------
    spans : list of Span
        Runs of absent bars.
    first, last : int or None
        Open times of the first and the last bar that it did hold.
    refused_slots : set of int
        Open times that refused rows stood for.
    all_stray : bool
        Rows came, and none of them is of the span that was asked for: that says nothing about its bars.
    """

    spans: list[Span]
    first: int | None
    last: int | None
    refused_slots: frozenset[int] = frozenset()
    all_stray: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """One page, judged.

    Attributes
    ----------
    good : pl.DataFrame
        Bars that may be stored (`STORED_SCHEMA`), sorted.
    refused : pl.DataFrame
        `REFUSED_SCHEMA`.
    absence : Absence
        What was missing and is not among the good ones.
    covered_until : int
        The page settles everything before this time (ms).
    settled : int
        How many missing bars it settles.
    known : int
        Good bars that were not missing: they are stored already, equal or revised.
    """

    good: pl.DataFrame
    refused: pl.DataFrame
    absence: Absence
    covered_until: int
    settled: int
    known: int


def judge(
    page: KlinePage, series: Series, spans: Sequence[Span], request: Request, until: int | None = None
) -> Verdict:
    """Judge the answer to `request`, which asked for bars of `spans`; it settles nothing from `until` on."""
    asked, astray, stood = _in_place(page.frame, series, request)
    good, refused = validate(asked, series.interval)
    refused_slots = _refused_slots(page, refused, series, request) | stood
    marked = {slot for slot in refused_slots if request.start <= slot < request.end}
    good = _without_lone_end(good, marked, series.length)
    slots = good["open_time"].to_numpy()
    covered_until = _covered_until(page, slots, marked, series, request)
    if until is not None:
        covered_until = min(covered_until, until)
    settled = clip(spans, request.start, covered_until)
    return Verdict(
        good=good.select(pl.lit(series.symbol).alias("symbol"), pl.all()),
        refused=_refused_frame(page, refused, astray, series.symbol),
        absence=Absence(
            absent_spans(settled, slots, series.length),
            int(slots[0]) if len(slots) else None,
            int(slots[-1]) if len(slots) else None,
            frozenset(refused_slots),
            all_stray=page.count > 0 and not len(slots) and not marked,
        ),
        covered_until=covered_until,
        settled=count_bars(settled, series.length),
        known=len(slots) - _held(settled, slots),
    )


def _in_place(
    frame: pl.DataFrame, series: Series, request: Request
) -> tuple[pl.DataFrame, list[pl.DataFrame], set[int]]:
    """Part rows that are in place from those of times that were not asked for, and those that are out of order.

    Returns
    -------
    asked : pl.DataFrame
    astray : list of pl.DataFrame
        The others, each with its `reason`: to be refused whatever else they hold.
    stood : set of int
        Open times at which rows stood that are out of order.
    """
    opens = frame["open_time"]
    inside = (opens >= request.start) & (opens < request.end)
    astray: list[pl.DataFrame] = []
    if not inside.all():
        astray.append(frame.filter(~inside).with_columns(reason=pl.lit(OUTSIDE)))
        frame = frame.filter(inside)
    times = frame["open_time"].to_numpy()
    misplaced = out_of_order(times, series.length)
    if not misplaced.any():
        return frame, astray, set()
    wrong = pl.Series(misplaced)
    astray.append(frame.filter(wrong).with_columns(reason=pl.lit(OUT_OF_ORDER)))
    return frame.filter(~wrong), astray, places(times, misplaced, series.length, request.start)


def _without_lone_end(good: pl.DataFrame, refused_slots: set[int], length: int) -> pl.DataFrame:
    """Leave out the last bar where bars are missing right before it: the next answer has to begin with it.

    A last row with a wrong digit in its time looks like one after an outage, and no row follows that tells otherwise.
    """
    if good.height < 2:
        return good
    before, last = good["open_time"].tail(2).to_list()
    at = before + length
    while at in refused_slots:
        at += length
    return good.head(-1) if at < last else good


def _covered_until(
    page: KlinePage,
    slots: NDArray[np.int64],
    refused_slots: set[int],
    series: Series,
    request: Request,
) -> int:
    """Return how far the answer reaches.

    Past its last good row nothing is taken for granted, even if the page is not full: a host may answer fewer rows
    than were asked for. Refused rows reach no further than they follow each other: what is wrong with one may be its
    time. Emptiness is what an answer without rows says.
    """
    at = int(slots[-1]) + series.length if len(slots) else request.start
    while at in refused_slots:
        at += series.length
    if at > request.start:
        return min(request.end, at)
    if refused_slots:
        return min(request.end, min(refused_slots) + series.length)
    if not page.count:
        return request.end
    return min(request.end, request.start + request.limit * series.length)


def _refused_slots(page: KlinePage, refused: pl.DataFrame, series: Series, request: Request) -> set[int]:
    slots = {floor_time(at, series.interval) for at in refused["open_time"] if at is not None}
    for row in page.malformed:
        if row.open_time is not None:
            slots.add(floor_time(row.open_time, series.interval))
        else:
            slots.add(floor_time(_place_of(page, row.position, series, request), series.interval))
    return slots


def _place_of(page: KlinePage, position: int, series: Series, request: Request) -> int:
    """Return where a row without a readable open time stands: where the row before it leads to."""
    before = page.rows[position - 1] if position else None
    if isinstance(before, list) and before and type(before[0]) is int:
        return int(before[0]) + series.length
    return request.start + position * series.length


def absent_spans(settled: list[Span], slots: NDArray[np.int64], length: int) -> list[Span]:
    """Return the runs of bars within `settled` that are not among `slots` (ascending)."""
    absent: list[Span] = []
    for start, end in settled:
        here = slots[np.searchsorted(slots, start) : np.searchsorted(slots, end)]
        edges = np.concatenate(([start - length], here, [end]))
        for at in np.flatnonzero(np.diff(edges) > length):
            absent.append((int(edges[at]) + length, int(edges[at + 1])))
    return absent


def _held(spans: list[Span], slots: NDArray[np.int64]) -> int:
    return sum(int(np.searchsorted(slots, b) - np.searchsorted(slots, a)) for a, b in spans)


def _refused_frame(
    page: KlinePage, refused: pl.DataFrame, astray: list[pl.DataFrame], symbol: str
) -> pl.DataFrame:
    if refused.is_empty() and not astray and not page.malformed:
        return REFUSED_SCHEMA.to_frame()
    read = pl.concat([refused, *astray])
    raw = pl.Series("raw", [_raw_of(row, page.rows) for row in read.iter_rows(named=True)], dtype=pl.String)
    unread = pl.DataFrame(
        [(row.open_time, row.reason, row.raw) for row in page.malformed],
        schema={"open_time": pl.Int64(), "reason": pl.String(), "raw": pl.String()},
        orient="row",
    )
    both = pl.concat([read.with_columns(raw), unread], how="diagonal")
    return both.select(pl.lit(symbol).alias("symbol"), *KLINE_COLUMNS, "reason", "raw").cast(REFUSED_SCHEMA)


def _raw_of(row: dict[str, Any], rows: Sequence[Any]) -> str:
    """Return the text of the row as it was sent."""
    values = [row[name] for name in KLINE_COLUMNS]
    for sent in rows:
        if isinstance(sent, list) and sent[:1] == values[:1] and _same(sent, values):
            return orjson.dumps(sent).decode()
    return orjson.dumps(values).decode()


def _same(sent: list[Any], values: list[Any]) -> bool:
    try:
        return [float(value) for value in sent[: len(values)]] == values
    except (TypeError, ValueError):
        return False
