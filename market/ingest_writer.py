"""How pages get into the store: those that have come in are read, judged and written together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import polars as pl

from market.continuity import Continuity
from market.ingest_plan import FETCH_FAILED, Series, clip, count_bars, gap_frame
from market.ingest_report import REVISION_SCHEMA, IngestReport, SeriesTally
from market.judged_page import JudgedPage
from market.klines import KLINE_COLUMNS
from market.open_days import OpenDays, Piece
from market.page_batch import PlainPage, read_together
from market.source import KlineSource
from market.stopwatch import Stopwatch
from market.store import KlineStore

logger = logging.getLogger(__name__)

_PAGES_WAITING = 128
_PAGES_TOGETHER = 128
_MANY_BARS = 10_000
_GATHER_S = 1.0
"""A backfill waits so long for a batch to grow: each becomes a Parquet file and a durable transaction."""
_SILENCE_S = 5.0
"""When nothing has come for so long, bars that wait for the rest of their day are stored as they are."""


_Entry = tuple[PlainPage | JudgedPage, pl.DataFrame]
"""A page and its bars that may be stored (`market.klines.STORED_SCHEMA`)."""


@dataclass(slots=True)
class _Batch:
    """Pages that become durable together."""

    plain: list[tuple[PlainPage, pl.DataFrame]]
    judged: list[JudgedPage]
    flushed: asyncio.Event | None = None
    last: bool = False
    silence: bool = False

    @property
    def is_end(self) -> bool:
        """Everything handed over so far is to be durable after this one."""
        return self.last or self.silence or self.flushed is not None


class IngestWriter:
    """Takes pages as they come and stores them, many at a time: one task reads and judges, one writes.

    A page counts as done only when it is durable. Bars go first, then refused rows to quarantine, then absent
    spans to the ledger: an ingest that is killed in between asks again for what was not written.

    Parameters
    ----------
    source : KlineSource
        Where the pages come from; named in the quarantine and in the ledger.
    on_done : callable
        Called with (bars settled, series) when a page is durable.
    judge_again : callable
        Judges a plain page that is not what its outline promised.
    backfill : bool
        Much is to come: wait a moment for batches to grow. A sweep is written at once.
    """

    def __init__(
        self,
        store: KlineStore,
        source: KlineSource,
        report: IngestReport,
        tallies: dict[tuple[str, str], SeriesTally],
        on_done: Callable[[int, Series], None],
        judge_again: Callable[[PlainPage], Awaitable[list[JudgedPage]]],
        *,
        backfill: bool,
    ) -> None:
        self._store = store
        self._source = source
        self._report = report
        self._tallies = tallies
        self._on_done = on_done
        self._judge_again = judge_again
        self._gather_s = _GATHER_S if backfill else 0.0
        self._arrived: asyncio.Queue[PlainPage | JudgedPage | asyncio.Event | None] = asyncio.Queue(
            _PAGES_WAITING
        )
        self._ready: asyncio.Queue[_Batch] = asyncio.Queue(1)
        self._open: dict[str, OpenDays[PlainPage | JudgedPage]] = {}
        self._continuity: dict[str, Continuity] = {}
        self._unfinished: list[PlainPage | JudgedPage] = []
        self._failure: BaseException | None = None
        self._started = time.perf_counter()
        self._busy = Stopwatch()
        self._tasks = [asyncio.create_task(self._read_all()), asyncio.create_task(self._write_all())]

    @property
    def busy_s(self) -> float:
        """Seconds in which pages were being read or written; in the others the exchange was waited for."""
        return self._busy.seconds

    async def put(self, page: PlainPage | JudgedPage) -> None:
        """Hand over a page; waits while too many are waiting. Raises what the store has raised."""
        if self._failure is not None:
            raise self._failure
        await self._arrived.put(page)

    async def flush(self) -> None:
        """Wait until everything handed over so far is durable. Raises what the store has raised."""
        flushed = asyncio.Event()
        await self._arrived.put(flushed)
        await flushed.wait()
        if self._failure is not None:
            raise self._failure

    async def finish(self) -> None:
        """Write what is waiting, then stop. Raises what the store has raised."""
        await self._arrived.put(None)
        await asyncio.shield(asyncio.gather(*self._tasks))
        if self._failure is not None:
            raise self._failure

    async def _read_all(self) -> None:
        batch = _Batch([], [])
        while not batch.last:
            batch, pages = await self._gather()
            if self._failure is None:
                try:
                    with self._busy:
                        await self._read(batch, pages)
                except BaseException as failure:  # told to whoever hands over the next page
                    self._failure = failure
            await self._ready.put(batch)

    async def _gather(self) -> tuple[_Batch, list[PlainPage]]:
        """Collect what has arrived: all that is there, or more where waiting for it pays."""
        batch = _Batch([], [])
        pages: list[PlainPage] = []
        deadline: float | None = None
        while len(pages) + len(batch.judged) < _PAGES_TOGETHER:
            try:
                left = _SILENCE_S if deadline is None else max(0.0, deadline - time.perf_counter())
                arrived = (
                    self._arrived.get_nowait()
                    if not self._arrived.empty()
                    else await asyncio.wait_for(self._arrived.get(), left)
                )
            except TimeoutError:
                batch.silence = deadline is None and bool(self._unfinished)
                if deadline is None and not batch.silence:
                    continue
                break
            if arrived is None or isinstance(arrived, asyncio.Event):
                batch.last, batch.flushed = arrived is None, arrived
                break
            if isinstance(arrived, PlainPage):
                pages.append(arrived)
            else:
                batch.judged.append(arrived)
            deadline = deadline or time.perf_counter() + self._gather_s
        return batch, pages

    async def _read(self, batch: _Batch, pages: list[PlainPage]) -> None:
        for interval in dict.fromkeys(page.series.interval for page in pages):
            of_interval = [page for page in pages if page.series.interval == interval]
            frames = await asyncio.to_thread(read_together, interval, of_interval)
            if frames is None:
                for page in of_interval:
                    batch.judged += await self._judge_again(page)
            else:
                batch.plain += zip(of_interval, frames, strict=True)

    async def _write_all(self) -> None:
        last = False
        while not last:
            batch = await self._ready.get()
            last = batch.last
            if self._failure is None and (batch.plain or batch.judged or batch.is_end):
                try:
                    with self._busy:
                        await asyncio.to_thread(self._write, batch)
                except BaseException as failure:
                    self._failure = failure
                else:
                    self._count_all(batch)
            if batch.flushed is not None:
                batch.flushed.set()

    def _write(self, batch: _Batch) -> None:
        """Make a batch durable (in a worker thread), but for the days that the next one goes on with."""
        entries: list[_Entry] = [*batch.plain, *((page, page.verdict.good) for page in batch.judged)]
        for interval in dict.fromkeys([*(page.series.interval for page, _ in entries), *self._open]):
            of_interval = [entry for entry in entries if entry[0].series.interval == interval]
            self._write_new(interval, of_interval, hold=self._gather_s > 0 and not batch.is_end)
            for page, bars in of_interval:
                if page.known and bars.height:
                    self._write_known(page.series, bars)
            judged = [page for page in batch.judged if page.series.interval == interval]
            refused = [page.verdict.refused for page in judged if page.verdict.refused.height]
            if refused:
                self._store.quarantine(interval, pl.concat(refused), self._source.name)
            gaps = [gap for page, _ in of_interval for gap in page.gaps]
            if gaps:
                self._store.record_gaps(interval, gap_frame(gaps, self._report.now, self._source.kind))

    def _write_new(self, interval: str, entries: list[_Entry], *, hold: bool) -> None:
        """Write bars of which nothing was stored when the ingest began, in one transaction."""
        found = [
            Piece(page.series.symbol, page.start, page.covered_until, page, bars)
            for page, bars in entries
            if bars.height and not page.known
        ]
        bars = self._open.setdefault(interval, OpenDays()).join(found, hold=hold)
        if not bars:
            return
        frame = pl.concat(bars, rechunk=True)
        result = self._store.write(interval, frame, bulk=frame.height >= _MANY_BARS, trusted=True)
        if interval not in self._continuity:
            self._continuity[interval] = Continuity(self._store, interval)
        for symbol, count in self._continuity[interval].count_jumps(frame).items():
            self._tallies[symbol, interval].jumps += count
            logger.warning("%s %s: %d bars open far from the close before them", symbol, interval, count)
        self._report.stored_by_others += result.rows_updated + result.rows_unchanged

    def _write_known(self, series: Series, good: pl.DataFrame) -> None:
        """Write a page that goes over stored bars, and see which of those it revises."""
        span = int(good["open_time"][0]), int(good["open_time"][-1]) + series.length
        stored = self._store.scan(series.interval, [series.symbol], start=span[0], end=span[1]).collect()
        result = self._store.write(series.interval, good, trusted=True)
        tally = self._tally(series)
        tally.inserted += result.rows_inserted
        tally.updated += result.rows_updated
        tally.unchanged += result.rows_unchanged
        if result.rows_updated:
            revised = revisions(stored, good, series.interval)
            logger.warning(
                "%s %s: the exchange revised %d stored bars", series.symbol, series.interval, revised.height
            )
            self._report.revisions = pl.concat([self._report.revisions, revised])

    def _tally(self, series: Series) -> SeriesTally:
        return self._tallies[series.symbol, series.interval]

    def _count_all(self, batch: _Batch) -> None:
        """Count the pages that are durable now, of this batch and of those before."""
        pages = [*self._unfinished, *(page for page, _ in batch.plain), *batch.judged]
        self._unfinished = [page for days in self._open.values() for page in days.pages]
        waiting = set(map(id, self._unfinished))
        for page in pages:
            if id(page) not in waiting:
                self._count(page)

    def _count(self, done: PlainPage | JudgedPage) -> None:
        series, page, tally = done.series, done.page, self._tally(done.series)
        if isinstance(done, JudgedPage):
            tally.refused += done.verdict.refused.height
        if not done.known:
            tally.inserted += done.verdict.good.height if isinstance(done, JudgedPage) else page.count
        for _, start, end, cause in done.gaps:
            bars = count_bars([(start, end)], series.length)
            if cause == FETCH_FAILED:
                tally.failed += bars
            else:
                known = count_bars(clip(series.ledgered, start, end), series.length)
                tally.gaps += bars - known
                tally.still_absent += known
        tally.pending += done.pending
        tally.received += page.count
        tally.requests += page.requests
        tally.weight += page.weight
        tally.seconds = time.perf_counter() - self._started
        self._on_done(done.settled, series)


def revisions(stored: pl.DataFrame, good: pl.DataFrame, interval: str) -> pl.DataFrame:
    """Return those of `good` bars that differ from the stored ones: `REVISION_SCHEMA`."""
    both = good.join(stored, on=["symbol", "open_time"], suffix="_before")
    differs = pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(f"{name}_before")) for name in KLINE_COLUMNS if name != "open_time"
    )
    return both.filter(differs).with_columns(kline_interval=pl.lit(interval)).select(*REVISION_SCHEMA.names())
