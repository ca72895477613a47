"""Decide what to ask an exchange for: only what is missing, in as few requests as the protocol allows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from market.intervals import DAY_MS, ceil_time, floor_time, interval_ms
from market.store import KlineStore
from market.wording import utc

logger = logging.getLogger(__name__)

Span = tuple[int, int]
"""Half-open [from, to) in ms, both on the grid of the interval."""

Gap = tuple[str, int, int, str]
"""Symbol, first absent open time, the one after the last (ms), cause."""

NOT_LISTED_ANYMORE: Final = "not_listed_anymore"
BEFORE_LISTING: Final = "before_listing"
OUTAGE: Final = "outage"
REFUSED_ROWS: Final = "refused_rows"
FETCH_FAILED: Final = "fetch_failed"

SPOT_PAGE: Final = 1_000
"""Most bars that a request to the spot market returns."""

_SETTLE_MS: Final = 300_000
_CLOCK_SLACK_MS: Final = 60_000  # hosts of one exchange differ by some seconds
RECHECK_MS: Final = 5 * 60_000
"""A gap that was seen once is looked at again after so long, since a single wrong answer may have made it."""

LONGEST_WAIT_MS: Final = 7 * DAY_MS
"""The longest time between two looks at a gap."""

_LOOKS_AT_ONCE: Final = 100
"""Gaps of an interval that one ingest looks at again: a sweep must not wait for those of years of history."""

_PAGES_PER_LANE: Final = 4  # fewer are not worth the request that a lane may waste at its end


@dataclass(frozen=True, slots=True)
class Request:
    """One klines request: bars that open in [start, end), at most `limit` of them."""

    start: int
    end: int
    limit: int


@dataclass(frozen=True, slots=True)
class Series:
    """What one symbol lacks on one interval.

    Attributes
    ----------
    symbol, interval : str
        Whose bars.
    length : int
        Of the interval, ms.
    spans : tuple of Span
        What to ask for, ascending and disjoint.
    first_stored : int or None
        Open time of the oldest bar in the store.
    held_back : int
        Bars that are not asked for yet because the symbol did not trade when it was last looked at.
    looks_back : frozenset of int
        Starts of gaps, seen once, to be asked for from the bar before on. No bar is stored after that one, so nothing
        but the exchange's clock has told that it was closed when it came.
    ledgered : tuple of Span
        Spans known to be absent that are looked at again: where they still are, nothing is new.
    """

    symbol: str
    interval: str
    length: int
    spans: tuple[Span, ...]
    first_stored: int | None
    held_back: int = 0
    looks_back: frozenset[int] = frozenset()
    ledgered: tuple[Span, ...] = ()

    @property
    def bars(self) -> int:
        """How many bars the spans hold."""
        return count_bars(self.spans, self.length)


def plan_series(
    store: KlineStore,
    symbols: Sequence[str],
    interval: str,
    *,
    start: int,
    end: int | None,
    now: int,
    recheck_after_ms: int,
) -> list[Series]:
    """Return what each symbol lacks between `start` and `end`, as far as bars are closed at `now`.

    Missing is what is neither stored nor ledgered as absent, and what is ledgered but due for another look
    (see `_due`). What follows a symbol's delisting is not asked for before that gap is due.
    """
    length = interval_ms(interval)
    first = ceil_time(start, interval)
    closed_end = floor_time(now, interval)  # the bar that opens here is still open
    last = closed_end if end is None else min(ceil_time(end, interval), closed_end)
    oldest, newest = _extent(store, interval)
    _warn_of_clock(max(newest.values(), default=0) + length, now, interval)
    if first >= last or not symbols:
        return [Series(symbol, interval, length, (), None) for symbol in symbols]
    missing = store.missing_many(symbols, interval, first, last)
    due, failed, delisted, seen_once = _ledgered(
        store, symbols, interval, (first, last), oldest, now, recheck_after_ms
    )
    plans = []
    for symbol in symbols:
        fresh = [span for span in missing[symbol] if span[0] not in delisted.get(symbol, ())]
        later = [span for span in missing[symbol] if span[0] in delisted.get(symbol, ())]
        again = [(a, min(b, last)) for a, b in due.get(symbol, ())]
        spans = union([*fresh, *again, *((a, min(b, last)) for a, b in failed.get(symbol, ()))])
        held_back = count_bars(later, length)
        looks_back = frozenset(
            a for a, _ in again if a == newest.get(symbol, 0) + length and (symbol, a) in seen_once
        )
        known = union(again)
        plans.append(
            Series(symbol, interval, length, spans, oldest.get(symbol), held_back, looks_back, known)
        )
    return plans


def _ledgered(
    store: KlineStore,
    symbols: Sequence[str],
    interval: str,
    span: Span,
    oldest: Mapping[str, int],
    now: int,
    recheck_after_ms: int,
) -> tuple[dict[str, list[Span]], dict[str, list[Span]], dict[str, set[int]], set[tuple[str, int]]]:
    """Return gaps due for another look, failed spans, where delistings not due end, and which outages were seen once.

    If many are due, those that were not looked at for the longest time come first.
    """
    due: dict[str, list[Span]] = {}
    failed: dict[str, list[Span]] = {}
    delisted: dict[str, set[int]] = {}
    seen_once: set[tuple[str, int]] = set()
    looks = 0
    for row in store.gaps(interval, symbols).sort("checked_time").iter_rows(named=True):
        symbol, start, end, cause = (row[name] for name in ("symbol", "start_time", "end_time", "cause"))
        inside = start < span[1] and end > span[0]
        if cause == FETCH_FAILED:
            # Also before the span: a history of so many bars moves on, and the hole would stay.
            failed.setdefault(symbol, []).append((start, end))
        elif inside and looks < _LOOKS_AT_ONCE and _due(row, oldest.get(symbol), now, recheck_after_ms):
            looks += 1
            due.setdefault(symbol, []).append((max(start, span[0]), end))
            if cause == OUTAGE and row["checked_time"] == row["found_time"]:
                seen_once.add((symbol, start))
        elif cause == NOT_LISTED_ANYMORE:
            delisted.setdefault(symbol, set()).add(end)
    return due, failed, delisted, seen_once


def _due(gap: Mapping[str, Any], oldest: int | None, now: int, recheck_after_ms: int) -> bool:
    """Tell whether a ledgered gap deserves another look.

    One that a single answer has made soon does. Then the older it was when last looked at, the longer it takes: from
    minutes over hours to a week. An archive that did not have the bars either is a second answer; so is, for the time
    before a listing, the oldest bar of all, which was asked for by itself.
    """
    end, checked, cause = gap["end_time"], gap["checked_time"], gap["cause"]
    waited, age = now - checked, min(checked - end, LONGEST_WAIT_MS)
    if cause == NOT_LISTED_ANYMORE:
        return _halt_due(gap["start_time"], checked, now) or waited >= max(DAY_MS, age)
    if cause == BEFORE_LISTING and end == oldest:
        return waited >= max(DAY_MS, age)
    seen_once = checked == gap["found_time"] and "archive" not in gap["sources"]
    return waited >= (recheck_after_ms if seen_once else max(recheck_after_ms, age))


def _halt_due(start: int, checked: int, now: int) -> bool:
    """Tell whether a symbol that did not trade deserves another look before its gap is due by age.

    A halt looks like a delisting until it ends. It is asked about again after as long as it had lasted, so that its
    end is noticed within its own length.
    """
    return checked - start < DAY_MS and now - checked >= checked - start


def _extent(store: KlineStore, interval: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return the first and the last stored open time of each symbol."""
    spans = store.spans(interval)
    first, last = (
        dict(zip(spans["symbol"], spans[f"{end}_open_time"], strict=True)) for end in ("first", "last")
    )
    return first, last


def _warn_of_clock(stored_until: int, now: int, interval: str) -> None:
    """Say that the exchange's clock has gone back: nothing newer is asked for until it has caught up."""
    if stored_until > now + _CLOCK_SLACK_MS:
        logger.warning(
            "%s: the exchange's clock says %s, but bars are stored up to %s: nothing newer is asked for until it has"
            " passed them",
            *(interval, utc(now), utc(stored_until)),
        )


def next_request(spans: Sequence[Span], cursor: int, length: int, page: int = SPOT_PAGE) -> Request | None:
    """Return the request for the first missing bar at or after `cursor`, None if there is none.

    A request of up to `page` bars costs the same weight whatever it returns, so it takes along every further missing
    bar within its reach, with the stored ones between them (which shows revisions). A span that is longer is asked
    for to its end: the exchange answers the first bars there are, and so skips emptiness. The limit is no tighter
    than the page: a host that gives an open time twice shall not have the second row cut off.
    """
    ahead = [(max(a, cursor), b) for a, b in spans if b > cursor]
    if not ahead:
        return None
    first = ahead[0][0]
    reach = first + page * length
    end = max(b for a, b in ahead if a < reach)
    return Request(first, end, page)


def looking_back(request: Request, series: Series) -> Request:
    """Return the request for the bar before as well: it costs no weight, and shows whether that was revised."""
    return Request(request.start - series.length, request.end, request.limit)


def split_into_lanes(series: Series, lanes: int, page: int = SPOT_PAGE) -> list[tuple[Span, ...]]:
    """Split a series into at most `lanes` parts that can be walked side by side, cut between full pages."""
    pages = max(1, -(-series.bars // page))
    lanes = max(1, min(lanes, pages // _PAGES_PER_LANE))
    if lanes == 1 or len(series.spans) != 1:
        return [series.spans] if series.spans else []
    start, end = series.spans[0]
    step = -(-pages // lanes) * page * series.length
    return [((at, min(at + step, end)),) for at in range(start, end, step)]


def settled_before(now: int, start: int, length: int) -> int:
    """Return up to where, from `start` on, the absence of a bar is believed at `now`.

    An exchange may publish a bar some moments after it has closed.
    """
    latest = now - max(_SETTLE_MS, 2 * length)
    return start + max(0, -(-(latest - start) // length)) * length


def union(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the spans ascending and disjoint; touching ones become one, empty ones vanish."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def clip(spans: Iterable[Span], start: int, end: int) -> list[Span]:
    """Return the parts of the spans within [start, end)."""
    return [(max(a, start), min(b, end)) for a, b in spans if a < end and b > start]


def count_bars(spans: Iterable[Span], length: int) -> int:
    """Return how many bars of `length` ms the spans hold."""
    return sum((end - start) // length for start, end in spans)


def start_of(start: int | Mapping[str, int], interval: str) -> int:
    """Return where the history of an interval is to begin."""
    return start if isinstance(start, int) else start[interval]


def gap_frame(rows: Iterable[Gap], checked_time: int, source: str) -> pl.DataFrame:
    """Return ledger rows (symbol, start, end, cause) as the store takes them; `source` is the kind that was asked."""
    return pl.DataFrame(
        [(*row, checked_time, source) for row in rows],
        schema={
            "symbol": pl.String(),
            "start_time": pl.Int64(),
            "end_time": pl.Int64(),
            "cause": pl.String(),
            "checked_time": pl.Int64(),
            "sources": pl.String(),
        },
        orient="row",
    )
