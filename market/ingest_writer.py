"""The one task of an ingest that writes: whatever has come in goes into the store together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from market.ingest_plan import Series, count_bars, gap_frame
from market.ingest_report import REVISION_SCHEMA, IngestReport, SeriesTally
from market.klines import KLINE_COLUMNS, KLINE_SCHEMA, STORED_SCHEMA
from market.page_verdict import REFUSED_SCHEMA, Verdict
from market.store import KlineStore
from market.wire import KlinePage

logger = logging.getLogger(__name__)

_PAGES_WAITING = 64
_PAGES_TOGETHER = 50


@dataclass(frozen=True, slots=True)
class JudgedPage:
    """A page on its way into the store."""

    series: Series
    page: KlinePage
    verdict: Verdict
    gaps: list[tuple[str, int, int, str]]
    pending: int

    @classmethod
    def of_gap(cls, series: Series, gap: tuple[str, int, int, str]) -> JudgedPage:
        """Return what settles an absent span that was found without a page."""
        _, start, end, _ = gap
        nothing = KlinePage(KLINE_SCHEMA.to_frame(), (), [], requests=0)
        settled = count_bars([(start, end)], series.length)
        verdict = Verdict(
            STORED_SCHEMA.to_frame(), REFUSED_SCHEMA.to_frame(), [(start, end)], set(), end, settled, known=0
        )
        return cls(series, nothing, verdict, [gap], pending=0)


class IngestWriter:
    """Drains a queue of pages into the store, one transaction per interval for all pages that wait.

    A page counts as done only when it is durable. Bars go first, then refused rows to quarantine, then absent
    spans to the ledger: an ingest that is killed in between asks again for what was not written.

    Parameters
    ----------
    on_done : callable
        Called with (bars settled, series) when a page is durable.
    """

    def __init__(
        self,
        store: KlineStore,
        source: str,
        report: IngestReport,
        tallies: dict[tuple[str, str], SeriesTally],
        on_done: Callable[[int, Series], None],
    ) -> None:
        self._store = store
        self._source = source
        self._report = report
        self._tallies = tallies
        self._on_done = on_done
        self._queue: asyncio.Queue[JudgedPage | None] = asyncio.Queue(_PAGES_WAITING)
        self._failure: BaseException | None = None
        self._started = time.perf_counter()
        self._task = asyncio.create_task(self._run())

    async def put(self, page: JudgedPage) -> None:
        """Hand over a page; waits while too many are waiting. Raises what the store has raised."""
        if self._failure is not None:
            raise self._failure
        await self._queue.put(page)

    async def finish(self) -> None:
        """Write what is waiting, then stop. Raises what the store has raised."""
        await self._queue.put(None)
        await asyncio.shield(self._task)
        if self._failure is not None:
            raise self._failure

    async def _run(self) -> None:
        last = False
        while not last:
            pages = [await self._queue.get()]
            while len(pages) < _PAGES_TOGETHER and not self._queue.empty():
                pages.append(self._queue.get_nowait())
            last = None in pages
            batch = [page for page in pages if page is not None]
            if batch and self._failure is None:
                try:
                    await asyncio.to_thread(self._write, batch)
                except BaseException as failure:  # told to whoever hands over the next page
                    self._failure = failure
                    continue
                for page in batch:
                    self._count(page)

    def _write(self, batch: list[JudgedPage]) -> None:
        """Make a batch durable (in a worker thread)."""
        intervals = dict.fromkeys(page.series.interval for page in batch)
        for interval in intervals:
            pages = [page for page in batch if page.series.interval == interval]
            new = [page for page in pages if page.verdict.good.height and not page.verdict.known]
            if new:
                self._write_new(interval, new)
            for page in pages:
                if page.verdict.known:
                    self._write_known(interval, page)
            refused = [page.verdict.refused for page in pages if page.verdict.refused.height]
            if refused:
                self._store.quarantine(interval, pl.concat(refused), self._source)
            gaps = [gap for page in pages for gap in page.gaps]
            if gaps:
                self._store.record_gaps(interval, gap_frame(gaps, self._report.now))

    def _write_new(self, interval: str, pages: list[JudgedPage]) -> None:
        """Write pages of which nothing was stored when the ingest began, in one transaction."""
        result = self._store.write(interval, pl.concat([page.verdict.good for page in pages]))
        for page in pages:
            self._tally(page.series).inserted += page.verdict.good.height
        self._report.stored_by_others += result.rows_updated + result.rows_unchanged

    def _write_known(self, interval: str, page: JudgedPage) -> None:
        """Write a page that goes over stored bars, and see which of those it revises."""
        good = page.verdict.good
        span = int(good["open_time"].min()), int(good["open_time"].max()) + page.series.length  # type: ignore[arg-type]
        stored = self._store.scan(interval, [page.series.symbol], start=span[0], end=span[1]).collect()
        result = self._store.write(interval, good)
        tally = self._tally(page.series)
        tally.inserted += result.rows_inserted
        tally.updated += result.rows_updated
        tally.unchanged += result.rows_unchanged
        if result.rows_updated:
            revised = _revisions(stored, good, interval)
            logger.warning(
                "%s %s: the exchange revised %d stored bars", page.series.symbol, interval, revised.height
            )
            self._report.revisions = pl.concat([self._report.revisions, revised])

    def _tally(self, series: Series) -> SeriesTally:
        return self._tallies[series.symbol, series.interval]

    def _count(self, page: JudgedPage) -> None:
        tally = self._tally(page.series)
        tally.received += len(page.page.rows)
        tally.refused += page.verdict.refused.height
        tally.gaps += count_bars(((start, end) for _, start, end, _ in page.gaps), page.series.length)
        tally.pending += page.pending
        tally.requests += page.page.requests
        tally.weight += page.page.weight
        tally.seconds = time.perf_counter() - self._started
        self._on_done(page.verdict.settled, page.series)


def _revisions(stored: pl.DataFrame, good: pl.DataFrame, interval: str) -> pl.DataFrame:
    both = good.join(stored, on=["symbol", "open_time"], suffix="_before")
    differs = pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(f"{name}_before")) for name in KLINE_COLUMNS if name != "open_time"
    )
    return both.filter(differs).with_columns(kline_interval=pl.lit(interval)).select(*REVISION_SCHEMA.names())
