"""One run of `market.ingest.ingest`: ask, hand over, derive, report."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from market import ingest_plan as planning
from market import kline_scan
from market.absence import Absences
from market.client_errors import (
    ExchangeError,
    RequestRefusedError,
    RetriesExhaustedError,
    UnknownIntervalError,
    UnknownSymbolError,
)
from market.errors import MarketError
from market.ingest_derived import Confirmer, derivable, derive_all
from market.ingest_plan import Request, Series, Span, next_request, plan_series, split_into_lanes, start_of
from market.ingest_report import IngestReport, SeriesFailure, SeriesTally, all_failed
from market.ingest_writer import IngestWriter
from market.judged_page import JudgedPage
from market.page_batch import PlainPage, plain
from market.page_verdict import Verdict, judge
from market.progress import Progress, ProgressCallback
from market.source import KlineSource
from market.store import KlineStore
from market.wire import KlinePage, NotJsonError, ShapeError

logger = logging.getLogger(__name__)

_EXHAUSTED_IN_A_ROW: Final = 3
_MANY_PAGES: Final = 50
_BACKFILL_BARS: Final = 20_000

Lane = tuple[Series, tuple[Span, ...]]


class IngestRun:
    """One run of `ingest`."""

    def __init__(
        self, client: KlineSource, store: KlineStore, progress: ProgressCallback | None, derive: bool
    ) -> None:
        self._client = client
        self._store = store
        self._progress = progress
        self._derive = derive
        self._started = time.perf_counter()
        self._before = (client.traffic.requests, client.traffic.weight, client.traffic.retries)
        self._series: list[Series] = []
        self._tallies: dict[tuple[str, str], SeriesTally] = {}
        self._failures: dict[tuple[str, str], MarketError] = {}
        self._unknown: dict[str, UnknownSymbolError] = {}
        self._exhausted = 0
        self._done = self._expected = 0

    async def prepare(
        self,
        symbols: list[str],
        intervals: list[str],
        start: int | Mapping[str, int],
        end: int | None,
        recheck_after_ms: int,
        now: int | None,
    ) -> None:
        """Ask the exchange for its time, unless it is known, and the store for what is missing."""
        self._report = IngestReport(now=await self._client.server_time() if now is None else now)
        self._absences = Absences(self._client, self._report.now)
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
            tally = SeriesTally(series.symbol, series.interval, asked=series.bars, pending=series.held_back)
            self._tallies[series.symbol, series.interval] = tally
            self._expected += series.bars
        self._report.series = list(self._tallies.values())
        await self._learn_limit()

    async def _learn_limit(self) -> None:
        """Ask for the exchange's weight limit where it may matter; unknown, it is taken for the usual one.

        The question itself has a weight: where the limit is known, a tenth of it in pages is not worth asking again.
        """
        pages = sum(-(-series.bars // self._client.max_klines) for series in self._series)
        if pages >= max(_MANY_PAGES, self._client.told_weight_limit // 10):
            try:
                await self._client.exchange_info()
            except ExchangeError as error:
                if error.host_wide:
                    raise
                logger.warning("the exchange's limits stay unknown: %s", error.what)

    async def run(self) -> IngestReport:
        """Walk all lanes, derive what can be derived, then report."""
        self._writer = IngestWriter(
            self._store,
            self._client,
            self._report,
            self._tallies,
            self._count_done,
            self._judge_again,
            backfill=self._expected >= _BACKFILL_BARS,
        )
        self._tell()
        beside: list[asyncio.Task[None]] = []
        if self._expected >= _BACKFILL_BARS:
            beside.append(asyncio.create_task(asyncio.to_thread(kline_scan.load)))
        try:
            later = derivable(self._series, self._report.now) if self._derive else []
            postponed = set(map(id, later))
            await self._walk_all([series for series in self._series if id(series) not in postponed])
            if later:
                await self._writer.flush()
                await self._walk_all(await self._derive_from_minutes(later))
            if self._derive:
                await self._writer.flush()
                confirmer = Confirmer(self._client, self._store, self._report, self._tallies)
                await confirmer.run(self._collecting)
        finally:  # whatever has ended the walk: what has been received gets stored
            await _stop(beside)
            try:
                await self._writer.finish()
            finally:
                await _stop(self._absences.tasks)
        return self._conclude()

    async def _walk_all(self, chosen: list[Series]) -> None:
        """Ask for everything that these series lack."""
        workers: list[asyncio.Task[None]] = []
        try:
            waiting = iter(await self._lanes([series for series in chosen if series.spans]))
            workers += [asyncio.create_task(self._work(waiting)) for _ in range(self._client.concurrency)]
            await asyncio.gather(*workers)
        finally:
            await _stop(workers)

    async def _derive_from_minutes(self, later: list[Series]) -> list[Series]:
        """Store what follows from stored 1m bars; returns the series that have to be asked for after all."""
        done, asked = await asyncio.to_thread(derive_all, self._store, later)
        for series in done:
            self._tallies[series.symbol, series.interval].derived += series.bars
            self._count_done(series.bars, series)
        return asked

    async def _lanes(self, lacking: list[Series]) -> list[Lane]:
        """Split what is missing into parts to be walked side by side, where there are few series."""
        share = -(-self._client.concurrency // max(1, len(lacking)))
        lanes: list[Lane] = []
        for series in lacking:
            page = self._client.best_limit(series.bars)
            parts = split_into_lanes(series, share, page)
            if len(parts) > 1 and _may_precede_listing(series):
                parts = []
                with self._collecting(series):
                    parts = split_into_lanes(await self._from_listing(series), share, page)
            lanes += [(series, spans) for spans in parts]
        return lanes

    async def _from_listing(self, series: Series) -> Series:
        """Return the series without the time before its listing, which goes into the ledger."""
        start, end = series.spans[0]
        try:
            listing = await self._absences.listing(series)
        except ExchangeError as error:
            await self._ledger_failure(series, list(series.spans), error)
            raise
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
            self._failures.setdefault((series.symbol, series.interval), error)
            if error.host_wide or self._host_is_down(error):
                raise  # and whoever called says so
            if series.symbol not in self._unknown:  # what all its intervals share is told once
                logger.warning("%s %s: %s; %s", series.symbol, series.interval, error.what, error.remedy)
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
        look_back = set(series.looks_back)
        limit = self._client.best_limit(planning.count_bars(spans, series.length))
        try:
            while (request := next_request(spans, cursor, series.length, limit)) is not None:
                if (
                    request.start in look_back
                ):  # once: an answer that holds nothing else is asked for without it
                    look_back.remove(request.start)
                    request = planning.looking_back(request, series)
                page = await self._ask(series, request, unread=True)
                regular = plain(page, series, spans, request)
                verdict = None
                if regular is None:
                    if (
                        not page.is_json()
                    ):  # damaged on its way, and nobody has looked between its ends before
                        page = await self._ask(series, request)
                    verdict = self._judge(page, series, spans, request)
                self._exhausted = 0
                if regular is not None:
                    if regular.absence.spans:
                        gaps, pending = await self._absences.explain(series, regular.absence, seen_any)
                        regular = replace(regular, gaps=gaps, pending=pending)
                    await self._writer.put(regular)
                    cursor, seen_any = regular.covered_until, True
                elif verdict is not None:
                    gaps, pending = await self._absences.explain(series, verdict.absence, seen_any)
                    await self._writer.put(JudgedPage(series, page, verdict, gaps, pending))
                    seen_any = seen_any or not verdict.good.is_empty()
                    cursor = verdict.covered_until
        except ExchangeError as error:
            await self._ledger_failure(series, planning.clip(spans, cursor, spans[-1][1]), error)
            raise

    async def _ask(self, series: Series, request: Request, *, unread: bool = False) -> KlinePage:
        return await self._client.klines_page(
            series.symbol, series.interval, request.start, request.end, request.limit, unread=unread
        )

    async def _judge_again(self, page: PlainPage) -> list[JudgedPage]:
        """Judge a page by itself that did not pass among others; one that was damaged is asked for once more.

        The walk has gone on to what follows the page, so what it does not settle after all is ledgered as a failure.
        """
        series, request, received, until = page.series, page.request, page.page, page.covered_until
        judged: list[JudgedPage] = []
        settled_until = request.start
        try:
            if not received.is_json():
                received = await self._ask(series, request)
            verdict = self._judge(received, series, page.spans, request, until)
            gaps, pending = await self._absences.explain(series, verdict.absence, seen_any=True)
            judged.append(JudgedPage(series, received, verdict, gaps, pending))
            settled_until = verdict.covered_until
        except ExchangeError as error:
            self._failures.setdefault((series.symbol, series.interval), error)
        unsettled = planning.clip(page.spans, settled_until, until) if settled_until < until else []
        for start, end in unsettled:
            gap = (series.symbol, start, end, planning.FETCH_FAILED)
            judged.append(JudgedPage.of_gap(series, gap, settled=0))
        return judged

    def _judge(
        self,
        page: KlinePage,
        series: Series,
        spans: Sequence[Span],
        request: Request,
        until: int | None = None,
    ) -> Verdict:
        try:
            return judge(page, series, spans, request, until)
        except (NotJsonError, ShapeError) as error:  # its brackets are right, but not what is between them
            raise RequestRefusedError(
                f"a page of {page.count} rows cannot be read: {error}",
                where=f"{self._client.base_url} {series.symbol} {series.interval}",
                remedy="run again later: what is missing is asked for again",
            ) from error

    async def _ledger_failure(self, series: Series, spans: list[Span], error: ExchangeError) -> None:
        """Ledger what could not be fetched; a symbol or an interval that does not exist is no gap."""
        if not isinstance(error, UnknownSymbolError | UnknownIntervalError):
            for start, end in spans:
                gap = (series.symbol, start, end, planning.FETCH_FAILED)
                await self._writer.put(JudgedPage.of_gap(series, gap, settled=0))

    def _count_done(self, bars: int, series: Series) -> None:
        self._done += bars
        self._tell(f"{series.symbol} {series.interval}")

    def tell_trouble(self, trouble: str) -> None:
        """Tell what is wrong with the exchange while requests are tried again."""
        if self._progress is None:
            logger.warning("%s: %s", self._client.base_url, trouble)
        self._tell(trouble=trouble)

    def _tell(self, detail: str = "", trouble: str = "") -> None:
        if self._progress is not None:
            seconds = time.perf_counter() - self._started
            self._progress(
                Progress("klines", self._done, self._expected, seconds, detail=detail, trouble=trouble)
            )

    def _conclude(self) -> IngestReport:
        report, traffic = self._report, self._client.traffic
        report.failures = [SeriesFailure(*key, error) for key, error in self._failures.items()]
        report.requests = traffic.requests - self._before[0]
        report.weight = traffic.weight - self._before[1]
        report.retries = traffic.retries - self._before[2]
        report.seconds = time.perf_counter() - self._started
        report.waiting_s = max(0.0, report.seconds - self._writer.busy_s)
        asked = sum(bool(series.spans) for series in self._series)
        if report.failures and len(report.failures) == asked:
            raise all_failed(report.failures)
        logger.info("ingest: %s", report)
        return report


def _may_precede_listing(series: Series) -> bool:
    return series.first_stored is None or series.first_stored > series.spans[0][0]


async def _stop(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
