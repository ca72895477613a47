"""Fill a store's history: whole months and days from bulk archives where that is cheaper, the rest by REST."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import polars as pl

from market.archives.client import ArchiveClient
from market.archives.names import ArchiveMarket
from market.archives.plan import REQUESTS_PER_FILE, Scope, WantedFile, plan_files, scope_of, without
from market.archives.report import TransferReport
from market.archives.transfer import transfer
from market.ingest import DAY_MS, ingest
from market.ingest_plan import RECHECK_MS, Span, clip, count_bars, start_of
from market.ingest_report import IngestReport
from market.intervals import interval_ms
from market.loop_thread import run_sync
from market.progress import Progress, ProgressCallback, telling_trouble
from market.source import KlineSource, MarketName
from market.sources.opening import open_source
from market.store import KlineStore
from market.wording import count

logger = logging.getLogger(__name__)

_ARCHIVE_MARKETS: Final[dict[MarketName, ArchiveMarket]] = {"spot": "spot", "usd_m": "futures/um"}
_ROUNDS: Final = 3  # monthly files; days of months that turn out not to be there; what a removal left


@dataclass(slots=True)
class BackfillReport:
    """What a backfill did.

    Attributes
    ----------
    ingest : IngestReport
        What was asked for by REST, in the end.
    archives : TransferReport
        What was taken from archives, and what could not be.
    seconds : float
        Wall time of all of it.
    """

    ingest: IngestReport
    archives: TransferReport = field(default_factory=TransferReport)
    seconds: float = 0.0

    @property
    def inserted(self) -> int:
        """Bars that are new in the store, whichever way they came."""
        return self.archives.total("inserted") + self.ingest.total("inserted")

    def __str__(self) -> str:
        files = self.archives
        parts = [str(self.ingest)]
        if files.files:
            parts = [
                f"{count(files.total('inserted'), 'bar')} from"
                f" {count(files.count('stored', 'rewritten'), 'archive file')}"
                f" ({files.count('rewritten'):,} rewritten, {count(files.total('updated'), 'bar')} revised,"
                f" {files.count('absent'):,} not there, {len(files.failures):,} failed)",
                *parts,
            ]
        return "; ".join(parts)


async def backfill(
    source: KlineSource,
    archives: ArchiveClient | None,
    store: KlineStore,
    symbols: Sequence[str],
    intervals: Sequence[str],
    *,
    start: int | Mapping[str, int],
    end: int | None = None,
    progress: ProgressCallback | None = None,
    recheck_after_ms: int = RECHECK_MS,
    derive: bool = True,
    requests_per_file: int = REQUESTS_PER_FILE,
    now: int | None = None,
) -> BackfillReport:
    """Do what `market.ingest.ingest` does, but take from archives what they bring for fewer requests.

    What an archive does not have, or what cannot be trusted, is asked for by REST like everything else, so the result
    is the same with and without archives. May be interrupted at any time and run again: see docs/archives.md.

    Parameters
    ----------
    source : KlineSource
        Where the rest of the bars comes from; its clock decides which bars are closed and which files are due.
    archives : ArchiveClient or None
        Where the files come from; None: everything by REST.
    progress : callable, optional
        Called in the event loop with a `Progress` over all bars that were missing.
    requests_per_file : int
        A file is asked for where REST would need more requests than that for the bars that it brings; 0: wherever
        it brings any.

    Other parameters, and what is raised, are those of `ingest`.

    Returns
    -------
    BackfillReport
        With ``archives.failures`` for files that could not be taken: their bars were asked for by REST.
    """
    started = time.perf_counter()
    symbols, intervals = list(dict.fromkeys(symbols)), list(dict.fromkeys(intervals))
    for interval in intervals:
        interval_ms(interval)
    report = TransferReport()
    told = _Told(progress, started)
    scopes: list[Scope] = []
    if archives is not None:
        if now is None:
            async with telling_trouble(source.traffic, told.trouble):
                now = await source.server_time()
        scopes = [scope_of(archives.market, name, start_of(start, name), end, now) for name in intervals]
        told.expected = await asyncio.to_thread(_missing_bars, store, symbols, scopes)
        told.begin()
        for scope in scopes:
            plan = partial(
                plan_files,
                store,
                symbols,
                scope,
                bars_per_request=source.best_limit,
                recheck_after_ms=max(DAY_MS, recheck_after_ms),
                requests_per_file=requests_per_file,
            )
            async with telling_trouble(archives.traffic, told.trouble):
                await _take_files(archives, store, plan, scope, report, told)
    rest = await ingest(
        source,
        store,
        symbols,
        intervals,
        start=start,
        end=end,
        progress=told.of_rest if progress is not None else None,
        recheck_after_ms=recheck_after_ms,
        derive=derive,
        now=None if report.files else now,  # files may have taken hours
    )
    if report.files or rest.total("gaps") or rest.total("still_absent"):
        for scope in scopes:
            await asyncio.to_thread(note_archive_asked, store, symbols, scope)
    return BackfillReport(rest, report, time.perf_counter() - started)


def backfill_sync(
    url: str,
    archive_url: str | None,
    store: KlineStore,
    symbols: Sequence[str],
    intervals: Sequence[str],
    *,
    start: int | Mapping[str, int],
    end: int | None = None,
    progress: ProgressCallback | None = None,
    recheck_after_ms: int = RECHECK_MS,
    derive: bool = True,
    now: int | None = None,
    market: MarketName = "spot",
    **source_options: Any,
) -> BackfillReport:
    """Do what `backfill` does and wait for it.

    Parameters
    ----------
    url : str
        The exchange, as `market.sources.opening.open_source` takes it, with `market` and `source_options`.
    archive_url : str or None
        The archive host; None: everything by REST.
    """

    async def work() -> BackfillReport:
        async with open_source(url, market=market, **source_options) as source, AsyncExitStack() as stack:
            archives = None
            if archive_url is not None:
                archives = await stack.enter_async_context(
                    ArchiveClient(archive_url, market=_ARCHIVE_MARKETS[market])
                )
            return await backfill(
                source,
                archives,
                store,
                symbols,
                intervals,
                start=start,
                end=end,
                progress=progress,
                recheck_after_ms=recheck_after_ms,
                derive=derive,
                now=now,
            )

    return run_sync(work)


async def _take_files(
    archives: ArchiveClient,
    store: KlineStore,
    plan: Callable[[], list[WantedFile]],
    scope: Scope,
    report: TransferReport,
    told: _Told,
) -> None:
    """Take what archives have of one interval, until nothing more is wanted from them."""
    tried: set[str] = set()
    for _ in range(_ROUNDS):
        wanted = [file for file in await asyncio.to_thread(plan) if file.file.path not in tried]
        if not wanted or report.host_failed:
            return
        logger.info("%s: wanted: %s", scope.interval, count(len(wanted), "archive file"))
        await transfer(archives, store, wanted, scope.now, report, told.of_file)
        tried |= {file.file.path for file in wanted}


class _Told:
    """Progress over archives and REST together."""

    def __init__(self, progress: ProgressCallback | None, started: float) -> None:
        self._progress, self._started = progress, started
        self.expected = self._done = 0

    def begin(self) -> None:
        """Tell how much there is to do: the first file may take a while."""
        if self.expected:
            self._tell()

    def of_file(self, bars: int, path: str) -> None:
        """Tell that a file is durable."""
        self._done += bars
        self._tell(detail=path.rpartition("/")[2])

    def trouble(self, trouble: str) -> None:
        """Tell what is wrong with a host while requests are tried again."""
        if self._progress is None:
            logger.warning("%s", trouble)
        self._tell(trouble=trouble)

    def _tell(self, **what: str) -> None:
        if self._progress is not None:
            expected = max(self.expected, self._done)
            self._progress(
                Progress("klines", self._done, expected, time.perf_counter() - self._started, **what)
            )

    def of_rest(self, rest: Progress) -> None:
        """Pass on the progress of the REST part, on top of what files brought."""
        if self._progress is not None:
            self._progress(
                replace(
                    rest,
                    done=self._done + rest.done,
                    expected=self._done + rest.expected,
                    seconds=time.perf_counter() - self._started,
                )
            )


def _missing_bars(store: KlineStore, symbols: Sequence[str], scopes: Sequence[Scope]) -> int:
    return sum(
        count_bars(spans, scope.length)
        for scope in scopes
        for spans in store.missing_many(symbols, scope.interval, scope.start, scope.end).values()
    )


def note_archive_asked(store: KlineStore, symbols: Sequence[str], scope: Scope) -> int:
    """Say in the gap ledger where an archive was asked, too; returns how many rows say so now.

    A file that was taken and a file that the host does not have both answer for their span.
    """
    ledger = store.gaps(scope.interval, symbols)
    inside = (pl.col("end_time") > scope.start) & (pl.col("start_time") < scope.end)
    ledger = ledger.filter(inside & ~pl.col("sources").str.split(",").list.contains("archive"))
    if ledger.is_empty():
        return 0
    asked: dict[str, list[Span]] = {}
    for file in store.archives(scope.interval, symbols, scope.start, scope.end):
        if file.done:
            asked.setdefault(file.symbol, []).append((file.start_time, file.end_time))
    rows = []
    for gap in ledger.iter_rows(named=True):
        span = gap["start_time"], gap["end_time"]
        holes = clip(asked.get(gap["symbol"], ()), *span)
        rest = without(span, holes)
        sources = ",".join(sorted({*gap["sources"].split(","), "archive"}))
        rows += [{**gap, "start_time": a, "end_time": b, "sources": sources} for a, b in without(span, rest)]
    if rows:
        store.record_gaps(scope.interval, pl.DataFrame(rows, schema=ledger.schema).drop("kline_interval"))
    return len(rows)
