"""How pages get into the store: those that have come in are read, judged and written together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import polars as pl

from market.continuity import count_jumps
from market.ingest_plan import FETCH_FAILED, Series, count_bars, gap_frame
from market.ingest_report import REVISION_SCHEMA, IngestReport, SeriesTally
from market.klines import KLINE_COLUMNS, KLINE_SCHEMA, STORED_SCHEMA
from market.page_batch import PlainPage, read_together
from market.page_verdict import REFUSED_SCHEMA, Verdict
from market.source import KlineSource
from market.store import KlineStore
from market.wire import KlinePage

logger = logging.getLogger(__name__)

_PAGES_WAITING = 128
_PAGES_TOGETHER = 128
_MANY_BARS = 10_000
_GATHER_S = 1.0
"""A backfill waits so long for a batch to grow: each becomes a Parquet file and a durable transaction."""


@dataclass(frozen=True, slots=True)
class JudgedPage:
    """A page on its way into the store."""

    series: Series
    page: KlinePage
    verdict: Verdict
    gaps: list[tuple[str, int, int, str]]
    pending: int

    @classmethod
    def of_gap(cls, series: Series, gap: tuple[str, int, int, str], settled: int | None = None) -> JudgedPage:
        """Return what ledgers an absent span that was found without a page; by default this settles it."""
        _, start, end, _ = gap
        nothing = KlinePage(KLINE_SCHEMA.to_frame(), requests=0)
        if settled is None:
            settled = count_bars([(start, end)], series.length)
        verdict = Verdict(
            STORED_SCHEMA.to_frame(), REFUSED_SCHEMA.to_frame(), [(start, end)], set(), end, settled, known=0
        )
        return cls(series, nothing, verdict, [gap], pending=0)


@dataclass(slots=True)
class _Batch:
    """Pages that become durable together."""

    plain: list[tuple[PlainPage, pl.DataFrame]]
    judged: list[JudgedPage]
    flushed: asyncio.Event | None = None
    last: bool = False


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
        judge_again: Callable[[PlainPage], Awaitable[JudgedPage]],
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
                left = None if deadline is None else max(0.0, deadline - time.perf_counter())
                arrived = (
                    self._arrived.get_nowait()
                    if not self._arrived.empty()
                    else await asyncio.wait_for(self._arrived.get(), left)
                )
            except TimeoutError:
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
                batch.judged += [await self._judge_again(page) for page in of_interval]
            else:
                batch.plain += zip(of_interval, frames, strict=True)

    async def _write_all(self) -> None:
        last = False
        while not last:
            batch = await self._ready.get()
            last = batch.last
            if self._failure is None and (batch.plain or batch.judged):
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
        """Make a batch durable (in a worker thread)."""
        bars = [(page.series, frame, page.known) for page, frame in batch.plain]
        bars += [(page.series, page.verdict.good, page.verdict.known) for page in batch.judged]
        for interval in dict.fromkeys(series.interval for series, _, _ in bars):
            of_interval = [entry for entry in bars if entry[0].interval == interval and entry[1].height]
            self._write_new(interval, [(s, frame) for s, frame, known in of_interval if not known])
            for series, frame, known in of_interval:
                if known:
                    self._write_known(series, frame)
            pages = [page for page in batch.judged if page.series.interval == interval]
            refused = [page.verdict.refused for page in pages if page.verdict.refused.height]
            if refused:
                self._store.quarantine(interval, pl.concat(refused), self._source.name)
            gaps = [gap for page in pages for gap in page.gaps]
            if gaps:
                self._store.record_gaps(interval, gap_frame(gaps, self._report.now, self._source.kind))

    def _write_new(self, interval: str, found: list[tuple[Series, pl.DataFrame]]) -> None:
        """Write bars of which nothing was stored when the ingest began, in one transaction."""
        if not found:
            return
        found.sort(key=lambda entry: (entry[0].symbol, entry[1]["open_time"][0]))
        frame = pl.concat([frame for _, frame in found], rechunk=True)
        result = self._store.write(interval, frame, bulk=frame.height >= _MANY_BARS, trusted=True)
        for series, good in found:
            self._tally(series).inserted += good.height
        for symbol, count in count_jumps(self._store, interval, frame).items():
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
        for plain, _ in batch.plain:
            self._count(plain.series, plain.page, plain.settled)
        for page in batch.judged:
            tally = self._tally(page.series)
            tally.refused += page.verdict.refused.height
            for _, start, end, cause in page.gaps:
                bars = count_bars([(start, end)], page.series.length)
                if cause == FETCH_FAILED:
                    tally.failed += bars
                else:
                    tally.gaps += bars
            tally.pending += page.pending
            self._count(page.series, page.page, page.verdict.settled)

    def _count(self, series: Series, page: KlinePage, settled: int) -> None:
        tally = self._tally(series)
        tally.received += page.count
        tally.requests += page.requests
        tally.weight += page.weight
        tally.seconds = time.perf_counter() - self._started
        self._on_done(settled, series)


class Stopwatch:
    """Adds up the time in which at least one thing is being done; enter it around each."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._running = 0
        self._since = 0.0

    def __enter__(self) -> None:
        if not self._running:
            self._since = time.perf_counter()
        self._running += 1

    def __exit__(self, *_: object) -> None:
        self._running -= 1
        if not self._running:
            self.seconds += time.perf_counter() - self._since


def revisions(stored: pl.DataFrame, good: pl.DataFrame, interval: str) -> pl.DataFrame:
    """Return those of `good` bars that differ from the stored ones: `REVISION_SCHEMA`."""
    both = good.join(stored, on=["symbol", "open_time"], suffix="_before")
    differs = pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(f"{name}_before")) for name in KLINE_COLUMNS if name != "open_time"
    )
    return both.filter(differs).with_columns(kline_interval=pl.lit(interval)).select(*REVISION_SCHEMA.names())
