"""Decide which archive files to ask for: what spares requests, what may have changed, what may close a gap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from market.archives.names import DAY_MS, ArchiveFile, ArchiveMarket, daily, days, monthly, months, parse_path
from market.ingest_plan import FETCH_FAILED, OUTAGE, REFUSED_ROWS, Span, clip, count_bars, union
from market.intervals import ceil_time, floor_time, interval_ms
from market.store import KlineStore
from market.store.archived import ArchivedFile

REQUESTS_PER_FILE: Final = 2
"""The checksum and the zip. A file pays where REST would need more requests for the bars that it brings."""

Reason = Literal["missing", "changed", "gap"]

_SURELY_THERE_MS: Final = DAY_MS // 2  # after the day of publication has begun
_GAPS_OLDER_THAN_MS: Final = 2 * DAY_MS
_MOST_DAILY: Final = 3  # a gap that touches more days than that is looked up in the monthly file
_CLOSABLE: Final = (OUTAGE, FETCH_FAILED, REFUSED_ROWS)

PageSize = Callable[[int], int]
"""How many bars one REST request brings, where so many are wanted."""


@dataclass(frozen=True, slots=True)
class WantedFile:
    """An archive file to ask for.

    Attributes
    ----------
    file : ArchiveFile
        Which.
    start, end : int
        Open times to take from it: [start, end), ms.
    reason : "missing", "changed" or "gap"
        Why: it brings many missing bars, its checksum is due for another look, or it may close a gap.
    known : ArchivedFile or None
        What the store knows of it.
    """

    file: ArchiveFile
    start: int
    end: int
    reason: Reason
    known: ArchivedFile | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What a backfill is about, on one interval.

    Attributes
    ----------
    market : "spot" or "futures/um"
        Whose files.
    interval : str
        Of the bars.
    start, end : int
        Open times wanted, on the grid: [start, end), ms.
    now : int
        The exchange's clock, ms.
    """

    market: ArchiveMarket
    interval: str
    start: int
    end: int
    now: int

    @property
    def length(self) -> int:
        """Of the interval, ms."""
        return interval_ms(self.interval)

    def published(self, file: ArchiveFile) -> bool:
        """Tell whether the host should have a file by now."""
        return self.now >= file.published_time + _SURELY_THERE_MS


def scope_of(market: ArchiveMarket, interval: str, start: int, end: int | None, now: int) -> Scope:
    """Return the scope of the closed bars of an interval between `start` and `end` (default: now)."""
    closed_end = floor_time(now, interval)
    last = closed_end if end is None else min(ceil_time(end, interval), closed_end)
    return Scope(market, interval, ceil_time(start, interval), last, now)


def plan_files(
    store: KlineStore,
    symbols: Sequence[str],
    scope: Scope,
    *,
    bars_per_request: PageSize,
    recheck_after_ms: int,
    requests_per_file: int = REQUESTS_PER_FILE,
) -> list[WantedFile]:
    """Return the archive files to ask for, each once, oldest first and all symbols of a month together.

    Bars longer than a day are left to REST: a request brings a thousand of them, and the last one of a file may have
    been open when the file was made.
    """
    if scope.length > DAY_MS or scope.start >= scope.end or not symbols:
        return []
    files = _Files(store, symbols, scope)
    files.add_missing(lambda bars: bars > requests_per_file * bars_per_request(bars))
    files.add_changed(recheck_after_ms)
    files.add_gaps()
    return sorted(files.wanted.values(), key=lambda wanted: (wanted.start, wanted.file.symbol))


class _Files:
    """The files that are wanted so far, by path."""

    def __init__(self, store: KlineStore, symbols: Sequence[str], scope: Scope) -> None:
        self._store, self._symbols, self._scope = store, symbols, scope
        self.wanted: dict[str, WantedFile] = {}
        self._known: dict[str, ArchivedFile] | None = None

    @property
    def known(self) -> dict[str, ArchivedFile]:
        """What the store knows of files, by path; asked for once, and only if something is missing."""
        if self._known is None:
            scope = self._scope
            # A file that was asked for another part of its month is known, too.
            *_, last = months(scope.start, scope.end)
            end = monthly(scope.market, "", scope.interval, last).end_time
            start = next(months(scope.start, scope.end))
            found = self._store.archives(scope.interval, self._symbols, start, end)
            self._known = {file.path: file for file in found}
        return self._known

    def add_missing(self, pays: Callable[[int], bool]) -> None:
        """Want the files that bring more missing bars than REST does in as many requests, as `pays` tells."""
        scope = self._scope
        missing = self._store.missing_many(self._symbols, scope.interval, scope.start, scope.end)
        for symbol, spans in missing.items():
            for month in months(spans[0][0], spans[-1][1]) if spans else ():
                file = monthly(scope.market, symbol, scope.interval, month)
                lacking = clip(spans, file.start_time, file.end_time)
                if not pays(count_bars(lacking, scope.length)):
                    continue
                if scope.published(file) and not self._absent(file):
                    self._want_missing(file, lacking, pays)
                    continue
                for day in days(lacking[0][0], lacking[-1][1]):
                    file = daily(scope.market, symbol, scope.interval, day)
                    if scope.published(file) and not self._absent(file):
                        self._want_missing(file, clip(lacking, file.start_time, file.end_time), pays)

    def _absent(self, file: ArchiveFile) -> bool:
        known = self.known.get(file.path)
        return known is not None and known.absent

    def _want_missing(self, file: ArchiveFile, lacking: list[Span], pays: Callable[[int], bool]) -> None:
        known = self.known.get(file.path)
        if known is not None and known.done:
            lacking = _not_taken(known, lacking, self._scope.length)
        if pays(count_bars(lacking, self._scope.length)):
            self._want(file, "missing", known)

    def add_changed(self, recheck_after_ms: int) -> None:
        """Want the files whose checksum is due for another look, and those that a killed run left unfinished."""
        scope = self._scope
        for known in self._store.archives_due(scope.interval, self._symbols, scope.now, recheck_after_ms):
            file = parse_path(known.path)
            inside = known.end_time > scope.start and known.start_time < scope.end
            if file is not None and file.market == scope.market and inside and known.path not in self.wanted:
                span = known.start_time, known.end_time
                self.wanted[known.path] = WantedFile(file, *span, "changed", known)

    def add_gaps(self) -> None:
        """Want the files that may hold bars of gaps that only REST was asked about."""
        for symbol, start, end in unasked_gaps(self._store, self._symbols, self._scope):
            asked = [span for span in self._asked(symbol) if span[0] < end and span[1] > start]
            for a, b in without((start, end), asked):
                for file in self._files_over(symbol, a, b):
                    if file.path not in self.known:
                        self._want(file, "gap", None)

    def _asked(self, symbol: str) -> list[Span]:
        return [
            (file.start_time, file.end_time)
            for file in self.known.values()
            if file.symbol == symbol and file.done
        ]

    def _files_over(self, symbol: str, start: int, end: int) -> Iterable[ArchiveFile]:
        scope = self._scope
        touched = list(days(start, end))
        for month in months(start, end):
            file = monthly(scope.market, symbol, scope.interval, month)
            if file.path in self.wanted or (len(touched) > _MOST_DAILY and scope.published(file)):
                yield file
                continue
            for day in touched:
                one = daily(scope.market, symbol, scope.interval, day)
                if file.start_time <= day < file.end_time and scope.published(one):
                    yield one

    def _want(self, file: ArchiveFile, reason: Reason, known: ArchivedFile | None) -> None:
        """Want a file for as much of its span as is asked for, and for what was taken from it before."""
        start, end = max(file.start_time, self._scope.start), min(file.end_time, self._scope.end)
        if known is not None:
            start, end = min(start, known.start_time), max(end, known.end_time)
        if file.path not in self.wanted and start < end:
            self.wanted[file.path] = WantedFile(file, start, end, reason, known)


def _not_taken(known: ArchivedFile, lacking: list[Span], length: int) -> list[Span]:
    """Return what a file that was taken already may still bring.

    What was taken from it and is missing was not in it, unless bars have been removed since.
    """
    within = count_bars(clip(lacking, known.start_time, known.end_time), length)
    if within > count_bars([(known.start_time, known.end_time)], length) - known.rows:
        return lacking
    return [part for span in lacking for part in without(span, [(known.start_time, known.end_time)])]


def unasked_gaps(store: KlineStore, symbols: Sequence[str], scope: Scope) -> list[tuple[str, int, int]]:
    """Return the ledgered gaps in scope that an archive may close and has not been asked about."""
    ledger = store.gaps(scope.interval, symbols)
    start, end = pl.col("start_time"), pl.col("end_time")
    chosen = ledger.filter(
        ~pl.col("sources").str.split(",").list.contains("archive")
        & pl.col("cause").is_in(_CLOSABLE)
        & (end <= scope.now - _GAPS_OLDER_THAN_MS)
        & (end > scope.start)
        & (start < scope.end)
    )
    spans = chosen.select("symbol", start.clip(scope.start), end.clip(upper_bound=scope.end))
    return [(symbol, a, b) for symbol, a, b in spans.iter_rows()]


def without(span: Span, holes: Iterable[Span]) -> list[Span]:
    """Return what is left of a span without some others."""
    left, at = [], span[0]
    for start, end in union(holes):
        if start > at:
            left.append((at, min(start, span[1])))
        at = max(at, end)
    return [*(part for part in left if part[0] < part[1]), *([(at, span[1])] if at < span[1] else [])]
