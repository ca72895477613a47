"""Pages that look as they should, read and judged many at a time.

What a backfill receives is nearly always a regular page that begins where it was asked to and has a bar for every
open time up to its last, or a hole or two. Its outline, or its open times where there are holes, is enough to ask for
the next one; its values are read and validated together with those of other pages, since a frame of 100,000 rows
costs little more than one of 1,000. If anything in such a batch is not as it seemed, each of its pages is judged by
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.ingest_plan import Gap, Request, Series, Span, clip, count_bars
from market.klines import validate
from market.page_verdict import Absence, absent_spans
from market.wire import KlinePage
from market.wire import read_together as read_pages


@dataclass(frozen=True, slots=True)
class PlainPage:
    """A page that has the bars of [request.start, covered_until), both ends included, by what was seen of it.

    Attributes
    ----------
    settled : int
        How many bars were missing of that span.
    known : int
        How many of the page's bars were not: they are stored already.
    absence : Absence
        What was missing and is not on the page.
    gaps, pending
        What that means for the ledger, as `market.absence.Absences.explain` says.
    """

    series: Series
    page: KlinePage
    request: Request
    spans: Sequence[Span]
    covered_until: int
    settled: int
    known: int
    absence: Absence
    gaps: list[Gap] = field(default_factory=list)
    pending: int = 0

    @property
    def start(self) -> int:
        """The page settles nothing before this time (ms)."""
        return self.request.start


def plain(page: KlinePage, series: Series, spans: Sequence[Span], request: Request) -> PlainPage | None:
    """Return the answer to `request` as a plain page, None if it has to be looked at by itself."""
    seen = page.outline
    if seen is None or seen.first != request.start:
        return None
    until = seen.last + series.length
    if until > request.end:
        return None
    asked = clip(spans, request.start, until)
    absent: list[Span] = []
    if until - seen.first != seen.rows * series.length:
        opens = _steady(page, series.length)
        if opens is None or opens[-1] - opens[-2] > series.length:  # the next page has to begin with the last
            return None
        absent = absent_spans(asked, opens, series.length)
    settled = count_bars(asked, series.length)
    known = seen.rows - settled + count_bars(absent, series.length)
    absence = Absence(absent, seen.first, seen.last)
    return PlainPage(series, page, request, spans, until, settled, known, absence)


def _steady(page: KlinePage, length: int) -> NDArray[np.int64] | None:
    """Return the open times of a page on which they ascend by whole bars; None of any other."""
    if page.columns is None:
        return None
    opens = page.columns.open_time
    steps = np.diff(opens)
    return opens if (steps >= length).all() and not (steps % length).any() else None


def read_together(interval: str, pages: Sequence[PlainPage]) -> list[pl.DataFrame] | None:
    """Read and validate plain pages of one interval; without the interpreter's lock for the most part.

    Returns
    -------
    list of pl.DataFrame or None
        The bars of each page (`market.klines.STORED_SCHEMA`), in the order given; None if some page is not what its
        outline promised.
    """
    order = sorted(range(len(pages)), key=lambda at: (pages[at].series.symbol, pages[at].request.start))
    ends = [page.page.outline for page in (pages[at] for at in order) if page.page.outline is not None]
    frame = read_pages([pages[at].page for at in order])
    rows = np.array([outline.rows for outline in ends])
    if frame is None or frame.height != rows.sum():
        return None
    names = pl.Series("symbol", [pages[at].series.symbol for at in order], dtype=pl.String)
    frame = frame.insert_column(0, names.gather(np.repeat(np.arange(len(order)), rows)))
    good, refused = validate(frame, interval)
    if refused.height or not good["open_time"].equals(frame["open_time"]):
        return None
    stops = np.cumsum(rows)
    opens = good["open_time"].to_numpy()
    if not (
        np.array_equal(opens[stops - rows], [outline.first for outline in ends])
        and np.array_equal(opens[stops - 1], [outline.last for outline in ends])
    ):
        return None
    found = [good] * len(pages)
    for at, stop, count in zip(order, stops.tolist(), rows.tolist(), strict=True):
        found[at] = good.slice(stop - count, count)
    return found
