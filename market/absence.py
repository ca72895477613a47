"""Why bars are absent: the rows of the gap ledger for what an answer did not hold."""

from __future__ import annotations

import asyncio

from market import ingest_plan as planning
from market.ingest_plan import Gap, Series, Span
from market.page_verdict import Absence
from market.source import KlineSource


class Absences:
    """Names the cause of absent spans; asks the source for listings and the states of symbols, each once.

    Parameters
    ----------
    now : int
        The exchange's clock when the ingest began, ms.
    """

    def __init__(self, source: KlineSource, now: int) -> None:
        self._source = source
        self._now = now
        self._listings: dict[tuple[str, str], asyncio.Task[int | None]] = {}

    @property
    def tasks(self) -> list[asyncio.Task[int | None]]:
        """Questions that may still be under way."""
        return list(self._listings.values())

    async def explain(self, series: Series, absence: Absence, seen_any: bool) -> tuple[list[Gap], int]:
        """Return ledger rows for the bars that are absent, and how many are too recent for the ledger.

        `seen_any` says that bars before this answer's have been received.
        """
        gaps: list[Gap] = []
        pending = 0
        for run_start, run_end in absence.spans:
            end = min(run_end, planning.settled_before(self._now, run_start, series.length))
            pending += (run_end - end) // series.length
            for start, stop, refused in _by_refusal(run_start, end, absence.refused_slots, series.length):
                if refused or absence.all_stray:
                    gaps.append((series.symbol, start, stop, planning.REFUSED_ROWS))
                else:
                    gaps += await self._name_cause(series, absence, (start, stop), seen_any)
        return gaps, pending

    async def listing(self, series: Series) -> int | None:
        """Return the exchange's oldest open time, asked for once per series."""
        key = series.symbol, series.interval
        if key not in self._listings:
            ask = self._source.first_open_time(series.symbol, series.interval)
            self._listings[key] = asyncio.ensure_future(ask)
        return await asyncio.shield(self._listings[key])

    async def _name_cause(self, series: Series, absence: Absence, span: Span, seen_any: bool) -> list[Gap]:
        """Return the ledger rows of one absent span: before the listing, after the delisting, or an outage."""
        start, end = span
        symbol = series.symbol
        older_stored = series.first_stored is not None and series.first_stored < start
        older_here = absence.first is not None and absence.first < start
        if older_stored or older_here or seen_any:
            return [(symbol, start, end, await self._cause_once_listed(series, absence, span))]
        listing = await self.listing(series)
        if listing is None or listing >= end:
            return [(symbol, start, end, planning.BEFORE_LISTING)]
        cause = await self._cause_once_listed(series, absence, span)
        if listing <= start:
            return [(symbol, start, end, cause)]
        return [(symbol, start, listing, planning.BEFORE_LISTING), (symbol, listing, end, cause)]

    async def _cause_once_listed(self, series: Series, absence: Absence, span: Span) -> str:
        """Return why bars after a listing are absent: an outage, unless the symbol has ended and no bar follows."""
        start, end = span
        followed = absence.last is not None and absence.last >= end
        known_later = any(end == stop for _, stop in series.spans[:-1])  # what is stored comes next
        if followed or known_later or await self._trades(series.symbol):
            return planning.OUTAGE
        if end < planning.settled_before(self._now, start, series.length):
            later = await self._source.klines_page(series.symbol, series.interval, end, None, 1)
            if later.count:
                return planning.OUTAGE
        return planning.NOT_LISTED_ANYMORE

    async def _trades(self, symbol: str) -> bool:
        infos = await self._source.exchange_info()
        return any(info.symbol == symbol and info.status == "TRADING" for info in infos)


def _by_refusal(start: int, end: int, refused: frozenset[int], length: int) -> list[tuple[int, int, bool]]:
    """Cut an absent span at the bars for which a row came but was refused."""
    marked = sorted(slot for slot in refused if start <= slot < end)
    parts: list[tuple[int, int, bool]] = []
    at = start
    for slot in marked:
        if slot > at:
            parts.append((at, slot, False))
        if parts and parts[-1][2] and parts[-1][1] == slot:
            parts[-1] = (parts[-1][0], slot + length, True)
        else:
            parts.append((slot, slot + length, True))
        at = slot + length
    if at < end:
        parts.append((at, end, False))
    return parts
