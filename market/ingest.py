"""Bring a store up to date with an exchange: complete, exact, and asking only for what is missing."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

from market import ingest_plan as planning
from market.client import MAX_KLINES, ExchangeClient
from market.client_errors import ExchangeError, RetriesExhaustedError, UnknownSymbolError
from market.errors import MarketError
from market.ingest_plan import Series, Span, next_request, plan_series, split_into_lanes, start_of
from market.ingest_report import IngestReport, SeriesFailure, SeriesTally, all_failed
from market.ingest_writer import IngestWriter, JudgedPage
from market.intervals import interval_ms
from market.page_verdict import Verdict, judge
from market.progress import Progress, ProgressCallback
from market.store import KlineStore

T = TypeVar("T")
logger = logging.getLogger(__name__)

DAY_MS: Final = 86_400_000
_EXHAUSTED_IN_A_ROW: Final = 3
_MANY_PAGES: Final = 50

Lane = tuple[Series, tuple[Span, ...]]


async def ingest(
    client: ExchangeClient,
    store: KlineStore,
    symbols: Sequence[str],
    intervals: Sequence[str],
    *,
    start: int | Mapping[str, int],
    end: int | None = None,
    progress: ProgressCallback | None = None,
    recheck_after_ms: int = DAY_MS,
) -> IngestReport:
    """Store every closed bar of `symbols` on `intervals` from `start` on that the store lacks.

    May be interrupted at any time, by Ctrl-C, cancellation or kill -9: a page is in the store as a whole or
    not at all, and the next run goes on from there. See docs/ingestion.md for what is asked and when.

    Parameters
    ----------
    client : ExchangeClient
        Where the bars come from; its clock decides which bars are closed.
    store : KlineStore
        Where they go.
    start : int or mapping from interval to int
        First open time wanted, ms; 0 for everything there is.
    end : int, optional
        Bars that open before this are wanted, ms; default: up to now.
    progress : callable, optional
        Called in the event loop with a `Progress` after every durable page, and once at the start.
    recheck_after_ms : int
        Shortest time, on the exchange's clock, after which a bar that the exchange did not have is asked for
        again; the older the gap, the longer.

    Returns
    -------
    IngestReport
        With `failures` for the symbols that could not be completed, if others could.

    Raises
    ------
    MarketError
        If an interval is unknown, if the exchange cannot be used at all (unreachable, HTTP 451, 403, banned),
        if the store cannot be written, or if every series failed. What came before is stored.
    """
    for interval in intervals:
        interval_ms(interval)
    run = _Ingest(client, store, progress)
    await run.prepare(
        list(dict.fromkeys(symbols)), list(dict.fromkeys(intervals)), start, end, recheck_after_ms
    )
    return await run.run()


def ingest_sync(
    base_url: str,
    store: KlineStore,
    symbols: Sequence[str],
    intervals: Sequence[str],
    *,
    start: int | Mapping[str, int],
    end: int | None = None,
    progress: ProgressCallback | None = None,
    recheck_after_ms: int = DAY_MS,
    **client_options: Any,
) -> IngestReport:
    """Do what `ingest` does and wait for it; `client_options` go to `ExchangeClient`."""

    async def work() -> IngestReport:
        async with ExchangeClient(base_url, **client_options) as client:
            return await ingest(
                client,
                store,
                symbols,
                intervals,
                start=start,
                end=end,
                progress=progress,
                recheck_after_ms=recheck_after_ms,
            )

    return run_sync(work)


def run_sync(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine to its end from ordinary code, also within a running event loop (a notebook).

    The loop runs in a thread of its own. An interrupt, whatever exception its handler raises (Dagster's is neither
    KeyboardInterrupt nor an Exception), so reaches the caller, who cancels the work and waits until it has stopped;
    within the loop, asyncio would log such an exception and go on.
    """
    loop = asyncio.new_event_loop()
    task: asyncio.Task[T] | None = None
    outcome: list[T] = []
    failure: list[BaseException] = []

    async def main() -> T:
        return await work()

    def in_thread() -> None:
        nonlocal task
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                task = loop.create_task(main())
                outcome.append(runner.run(_result(task)))
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    ended = threading.Event()  # an interrupted Thread.join takes the thread for ended (Python 3.11)
    threading.Thread(target=in_thread, name="ingest").start()
    try:
        ended.wait()
    except BaseException:
        if task is not None and not ended.is_set():
            loop.call_soon_threadsafe(task.cancel)
        ended.wait()
        raise
    if failure:
        raise failure[0]
    return outcome[0]


async def _result(task: asyncio.Task[T]) -> T:
    return await task


class _Ingest:
    """One run of `ingest`."""

    def __init__(self, client: ExchangeClient, store: KlineStore, progress: ProgressCallback | None) -> None:
        self._client = client
        self._store = store
        self._progress = progress
        self._started = time.perf_counter()
        self._before = (client.traffic.requests, client.traffic.weight, client.traffic.retries)
        self._series: list[Series] = []
        self._tallies: dict[tuple[str, str], SeriesTally] = {}
        self._failures: dict[tuple[str, str], MarketError] = {}
        self._unknown: dict[str, UnknownSymbolError] = {}
        self._listings: dict[tuple[str, str], asyncio.Task[int | None]] = {}
        self._exhausted = 0
        self._done = self._expected = 0

    async def prepare(
        self,
        symbols: list[str],
        intervals: list[str],
        start: int | Mapping[str, int],
        end: int | None,
        recheck_after_ms: int,
    ) -> None:
        """Ask the exchange for its time and the store for what is missing."""
        self._report = IngestReport(now=await self._client.server_time())
        for interval in intervals:
            self._series += await asyncio.to_thread(
                plan_series,
                self._store,
                symbols,
                interval,
                start=start_of(start, interval),
                end=end,
                now=self._report.now,
                recheck_after_ms=recheck_after_ms,
            )
        for series in self._series:
            tally = SeriesTally(series.symbol, series.interval, asked=series.bars)
            self._tallies[series.symbol, series.interval] = tally
            self._expected += series.bars
        self._report.series = list(self._tallies.values())
        await self._learn_limit()

    async def _learn_limit(self) -> None:
        """Ask for the exchange's weight limit where it may matter; unknown, it is taken for Binance's."""
        pages = sum(-(-series.bars // MAX_KLINES) for series in self._series)
        if pages >= _MANY_PAGES:
            try:
                await self._client.exchange_info()
            except ExchangeError as error:
                if error.host_wide:
                    raise
                logger.warning("the exchange's limits stay unknown: %s", error.what)

    async def run(self) -> IngestReport:
        """Walk all lanes, then report."""
        self._writer = IngestWriter(
            self._store, self._client.base_url, self._report, self._tallies, self._count_done
        )
        self._tell("")
        workers: list[asyncio.Task[None]] = []
        try:
            waiting = iter(await self._lanes())
            workers += [asyncio.create_task(self._work(waiting)) for _ in range(self._client.concurrency)]
            await asyncio.gather(*workers)
        finally:  # whatever has ended the walk: what has been received gets stored
            tasks = [*workers, *self._listings.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._writer.finish()
        return self._conclude()

    async def _lanes(self) -> list[Lane]:
        """Split what is missing into parts to be walked side by side, where there are few series."""
        lacking = [series for series in self._series if series.spans]
        share = -(-self._client.concurrency // max(1, len(lacking)))
        lanes: list[Lane] = []
        for series in lacking:
            parts = split_into_lanes(series, share)
            if len(parts) > 1 and _may_precede_listing(series):
                parts = []
                with self._collecting(series):
                    parts = split_into_lanes(await self._from_listing(series), share)
            lanes += [(series, spans) for spans in parts]
        return lanes

    async def _from_listing(self, series: Series) -> Series:
        """Return the series without the time before its listing, which goes into the ledger."""
        start, end = series.spans[0]
        listing = await self._listing(series)
        end = min(end, planning.settled_before(self._report.now, start, series.length))
        until = end if listing is None else min(end, listing)
        if until <= start:
            return series
        gap = (series.symbol, start, until, planning.BEFORE_LISTING)
        await self._writer.put(JudgedPage.of_gap(series, gap))
        return replace(series, spans=tuple(planning.clip(series.spans, until, series.spans[-1][1])))

    async def _work(self, waiting: Iterator[Lane]) -> None:
        for series, spans in waiting:
            with self._collecting(series):
                if series.symbol in self._unknown:
                    raise self._unknown[series.symbol]
                await self._walk(series, spans)

    @contextmanager
    def _collecting(self, series: Series) -> Iterator[None]:
        """Keep a failure that concerns this series only; let through one that concerns all."""
        try:
            yield
        except ExchangeError as error:
            logger.warning("%s %s: %s", series.symbol, series.interval, error.what)
            self._failures.setdefault((series.symbol, series.interval), error)
            if error.host_wide or self._host_is_down(error):
                raise
            if isinstance(error, UnknownSymbolError):
                self._unknown[series.symbol] = error

    def _host_is_down(self, error: ExchangeError) -> bool:
        """Tell whether retries ran out so often, with nothing received in between, that it is the host."""
        if isinstance(error, RetriesExhaustedError):
            self._exhausted += 1
        return self._exhausted >= _EXHAUSTED_IN_A_ROW

    async def _walk(self, series: Series, spans: tuple[Span, ...]) -> None:
        """Ask for the bars of `spans`, a page at a time, and hand each page to the writer."""
        cursor, seen_any = spans[0][0], False
        while (request := next_request(spans, cursor, series.length)) is not None:
            page = await self._client.klines_page(
                series.symbol, series.interval, request.start, request.end, request.limit
            )
            self._exhausted = 0
            verdict = judge(page, series, spans, request)
            gaps, pending = await self._explain(series, verdict, seen_any)
            await self._writer.put(JudgedPage(series, page, verdict, gaps, pending))
            seen_any = seen_any or not verdict.good.is_empty()
            cursor = verdict.covered_until

    async def _explain(
        self, series: Series, verdict: Verdict, seen_any: bool
    ) -> tuple[list[tuple[str, int, int, str]], int]:
        """Return ledger rows for the bars that are absent, and how many are too recent for the ledger."""
        gaps: list[tuple[str, int, int, str]] = []
        pending = 0
        for run_start, run_end in verdict.absent:
            end = min(run_end, planning.settled_before(self._report.now, run_start, series.length))
            pending += (run_end - end) // series.length
            for start, stop, refused in _by_refusal(run_start, end, verdict.refused_slots, series.length):
                if refused:
                    gaps.append((series.symbol, start, stop, planning.REFUSED_ROWS))
                else:
                    tail = (stop == end and end < run_end) or stop >= series.spans[-1][1]
                    gaps += await self._name_cause(series, verdict, (start, stop), seen_any, tail)
        return gaps, pending

    async def _name_cause(
        self, series: Series, verdict: Verdict, span: Span, seen_any: bool, tail: bool
    ) -> list[tuple[str, int, int, str]]:
        """Return the ledger rows of one absent span: before the listing, after it, or an outage."""
        start, end = span
        symbol = series.symbol
        if tail and not await self._trades(symbol):
            listing = await self._listing(series)
            if listing is None or listing < start:
                return [(symbol, start, end, planning.NOT_LISTED_ANYMORE)]
        older_stored = series.first_stored is not None and series.first_stored < start
        older_here = not verdict.good.is_empty() and verdict.good["open_time"][0] < start
        if older_stored or older_here or seen_any:
            return [(symbol, start, end, planning.OUTAGE)]
        listing = await self._listing(series)
        if listing is None or listing >= end:
            return [(symbol, start, end, planning.BEFORE_LISTING)]
        if listing <= start:
            return [(symbol, start, end, planning.OUTAGE)]
        return [
            (symbol, start, listing, planning.BEFORE_LISTING),
            (symbol, listing, end, planning.OUTAGE),
        ]

    async def _listing(self, series: Series) -> int | None:
        """Return the exchange's oldest open time, asked for once per series."""
        key = series.symbol, series.interval
        if key not in self._listings:
            ask = self._client.first_open_time(series.symbol, series.interval)
            self._listings[key] = asyncio.create_task(ask)
        return await asyncio.shield(self._listings[key])

    async def _trades(self, symbol: str) -> bool:
        infos = await self._client.exchange_info()
        return any(info.symbol == symbol and info.status == "TRADING" for info in infos)

    def _count_done(self, bars: int, series: Series) -> None:
        self._done += bars
        self._tell(f"{series.symbol} {series.interval}")

    def _tell(self, detail: str) -> None:
        if self._progress is not None:
            seconds = time.perf_counter() - self._started
            self._progress(Progress("klines", self._done, self._expected, seconds, detail=detail))

    def _conclude(self) -> IngestReport:
        report, traffic = self._report, self._client.traffic
        report.failures = [SeriesFailure(*key, error) for key, error in self._failures.items()]
        report.requests = traffic.requests - self._before[0]
        report.weight = traffic.weight - self._before[1]
        report.retries = traffic.retries - self._before[2]
        report.seconds = time.perf_counter() - self._started
        asked = sum(bool(series.spans) for series in self._series)
        if report.failures and len(report.failures) == asked:
            raise all_failed(report.failures)
        logger.info("ingest: %s", report)
        return report


def _may_precede_listing(series: Series) -> bool:
    return series.first_stored is None or series.first_stored > series.spans[0][0]


def _by_refusal(start: int, end: int, refused: set[int], length: int) -> list[tuple[int, int, bool]]:
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
