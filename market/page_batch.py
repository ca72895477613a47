"""Pages without a hole, read and judged many at a time.

What a backfill receives is nearly always a regular page that begins where it was asked to and has a bar for every
open time up to its last. Its outline says so, which is enough to ask for the next one; its values are read and
validated together with those of other pages, since a frame of 100,000 rows costs little more than one of 1,000.
If anything in such a batch is not as its outline promised, each of its pages is judged by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from market.ingest_plan import Request, Series, Span, clip, count_bars
from market.klines import validate
from market.wire import KlinePage
from market.wire import read_together as read_pages


@dataclass(frozen=True, slots=True)
class PlainPage:
    """A page that has every bar of [request.start, covered_until), by its outline.

    Attributes
    ----------
    settled : int
        How many of its bars were missing.
    known : int
        How many were not: they are stored already.
    """

    series: Series
    page: KlinePage
    request: Request
    spans: Sequence[Span]
    covered_until: int
    settled: int
    known: int


def plain(page: KlinePage, series: Series, spans: Sequence[Span], request: Request) -> PlainPage | None:
    """Return the answer to `request` as a plain page, None if it has to be looked at by itself."""
    seen = page.outline
    if seen is None or seen.first != request.start:
        return None
    until = seen.last + series.length
    if until > request.end or until - seen.first != seen.rows * series.length:
        return None
    settled = count_bars(clip(spans, request.start, until), series.length)
    return PlainPage(series, page, request, spans, until, settled, seen.rows - settled)


def read_together(interval: str, pages: Sequence[PlainPage]) -> list[pl.DataFrame] | None:
    """Read and validate plain pages of one interval.

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
