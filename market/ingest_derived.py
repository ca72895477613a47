"""The newest bars of longer intervals without asking: derived from stored 1m bars, confirmed the day after.

A sweep that follows every minute would spend a request on each longer bar that closes. Instead it is derived where
that is exact (`market.derive`), and one request a day and series compares all derived bars of a finished UTC day.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

import polars as pl

from market.derive import derive, divides
from market.ingest_plan import Request, Series, Span, clip, union
from market.ingest_report import IngestReport, SeriesTally
from market.ingest_writer import revisions
from market.intervals import DAY_MS, floor_time, interval_ms
from market.page_verdict import judge
from market.source import KlineSource
from market.store import KlineStore
from market.wording import count, utc

logger = logging.getLogger(__name__)

FINER: Final = "1m"
_REACH_MS: Final = 6 * 3_600_000
"""What is missing for longer is asked for: one request brings it all, and needs no confirming."""

_CONFIRMED_AT_ONCE: Final = 50
"""Series confirmed in one ingest: the first sweep after midnight must not wait for all of them."""


def derivable(series: Sequence[Series], now: int) -> list[Series]:
    """Return the series whose missing bars are few and new, so that deriving them may save a request."""
    return [
        one
        for one in series
        if one.spans
        and one.length < DAY_MS
        and divides(FINER, one.interval)
        and one.first_stored is not None
        and one.spans[0][0] >= now - _REACH_MS
    ]


def derive_all(store: KlineStore, series: Sequence[Series]) -> tuple[list[Series], list[Series]]:
    """Derive and store what these series lack; returns those that are complete by it and the others.

    A series is derived as a whole or not at all, since a request that is sent for one of its bars brings the rest too.
    """
    done: list[Series] = []
    for interval in dict.fromkeys(one.interval for one in series):
        of_interval = [one for one in series if one.interval == interval]
        start = min(one.spans[0][0] for one in of_interval)
        end = max(one.spans[-1][1] for one in of_interval)
        minutes = store.scan(FINER, [one.symbol for one in of_interval], start, end).collect()
        found = derive(minutes, FINER, interval)
        opens = dict(found.group_by("symbol").agg("open_time").iter_rows())
        whole = [
            one for one in of_interval if _slots(one.spans, one.length) <= set(opens.get(one.symbol, ()))
        ]
        if whole:
            wanted = [(one.symbol, at) for one in whole for at in _slots(one.spans, one.length)]
            keys = pl.DataFrame(wanted, schema={"symbol": pl.String(), "open_time": pl.Int64()}, orient="row")
            store.write_derived(interval, found.join(keys, on=["symbol", "open_time"], how="semi"))
            done += whole
    complete = set(map(id, done))
    return done, [one for one in series if id(one) not in complete]


def _slots(spans: Sequence[Span], length: int) -> set[int]:
    return {at for start, end in spans for at in range(start, end, length)}


_Settled = tuple[str, int, int, int]
"""Symbol, day, first open time and the one after the last, as `KlineStore.settle_derived` takes them."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Derived bars of one series, over one day or several, that one request can confirm.

    `days` names the stretches that are settled by it: day, first open time, the one after the last.
    """

    series: Series
    start: int
    end: int
    days: tuple[tuple[int, int, int], ...]


class Confirmer:
    """Asks the exchange for bars that were derived on days that are over, and compares them bit for bit.

    Where they differ the exchange's bar wins, is counted as a revision, and is warned of.
    """

    def __init__(
        self,
        source: KlineSource,
        store: KlineStore,
        report: IngestReport,
        tallies: dict[tuple[str, str], SeriesTally],
    ) -> None:
        self._source = source
        self._store = store
        self._report = report
        self._tallies = tallies
        self._settled: dict[str, tuple[list[_Settled], list[_Settled]]] = {}

    async def run(self, collecting: Callable[[Series], AbstractContextManager[None]]) -> None:
        """Confirm what is due, oldest first, some series at a time; `collecting` keeps a series' failure.

        First come bars of which a minute has just been revised: the exchange is asked for them at once, whatever the
        day. They stay unconfirmed like the others of their day.
        """
        revised = await asyncio.to_thread(self._revised)
        due = await asyncio.to_thread(self._due)
        waiting = iter([*revised, *due][:_CONFIRMED_AT_ONCE])
        workers = [
            asyncio.create_task(self._work(waiting, collecting)) for _ in range(self._source.concurrency)
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            for interval, (confirmed, asked) in self._settled.items():
                await asyncio.to_thread(
                    self._store.settle_derived, interval, confirmed, asked, self._report.now
                )

    def _revised(self) -> list[_Stretch]:
        """Return the derived bars that hold a minute which the exchange has revised in this ingest."""
        minutes = self._report.revisions.filter(pl.col("kline_interval") == FINER)
        if minutes.is_empty():
            return []
        times = dict(minutes.group_by("symbol").agg("open_time").iter_rows())
        touched: dict[tuple[str, str], list[int]] = {}
        for symbol, interval, _, start, end, _ in self._store.derived(symbols=list(times)).iter_rows():
            if (symbol, interval) in self._tallies:
                opens = {floor_time(at, interval) for at in times[symbol]}
                touched.setdefault((symbol, interval), []).extend(at for at in opens if start <= at < end)
        found = []
        for (symbol, interval), opened in touched.items():
            length = interval_ms(interval)
            pieces = union((at, at + length) for at in opened)
            while pieces:
                reach = pieces[0][0] + self._source.max_klines * length
                end = max((b for _, b in pieces if b <= reach), default=reach)
                series = Series(symbol, interval, length, ((pieces[0][0], end),), None)
                found.append(_Stretch(series, pieces[0][0], end, ()))
                pieces = tuple(clip(pieces, end, max(end, pieces[-1][1])))
        return found

    def _due(self) -> list[_Stretch]:
        """Return the stretches of finished days that the exchange has not been asked about today."""
        today = floor_time(self._report.now, "1d")
        notes = self._store.derived().filter(
            (pl.col("day") + DAY_MS <= today) & (pl.col("checked_time") < today)
        )
        found: list[_Stretch] = []
        for symbol, interval, day, start, end, _ in notes.iter_rows():
            if (symbol, interval) not in self._tallies:
                continue
            length = interval_ms(interval)
            before = found[-1] if found else None
            if (
                before is not None
                and (before.series.symbol, before.series.interval) == (symbol, interval)
                and (end - before.start) // length <= self._source.max_klines
            ):
                days, start = (*before.days, (day, start, end)), before.start
                found.pop()
            else:
                days = ((day, start, end),)
            found.append(_Stretch(Series(symbol, interval, length, ((start, end),), None), start, end, days))
        return sorted(found, key=lambda stretch: stretch.start)

    async def _work(
        self, waiting: Iterator[_Stretch], collecting: Callable[[Series], AbstractContextManager[None]]
    ) -> None:
        for stretch in waiting:
            with collecting(stretch.series):
                await self._confirm(stretch)

    async def _confirm(self, stretch: _Stretch) -> None:
        series = stretch.series
        request = Request(stretch.start, stretch.end, (stretch.end - stretch.start) // series.length)
        page = await self._source.klines_page(
            series.symbol, series.interval, request.start, request.end, request.limit
        )
        verdict = judge(page, series, series.spans, request)
        compared, absent = await asyncio.to_thread(self._compare, stretch, verdict.good)
        tally = self._tallies[series.symbol, series.interval]
        tally.received += page.count
        tally.requests += page.requests
        tally.weight += page.weight
        tally.confirmed += compared
        confirmed, asked = self._settled.setdefault(series.interval, ([], []))
        (asked if absent else confirmed).extend((series.symbol, *day) for day in stretch.days)

    def _compare(self, stretch: _Stretch, good: pl.DataFrame) -> tuple[int, int]:
        """Compare stored bars with the exchange's; returns how many were compared, and how many it did not give."""
        series = stretch.series
        stored = self._store.scan(series.interval, [series.symbol], stretch.start, stretch.end).collect()
        both = good.join(stored, on=["symbol", "open_time"], how="semi")
        revised = revisions(stored, both, series.interval)
        if revised.height:
            logger.warning(
                "%s %s: bars derived from %s bars differ from the exchange's, which are stored now: %s, first at %s",
                *(series.symbol, series.interval, FINER),
                *(count(revised.height, "bar"), utc(revised["open_time"][0])),
            )
            self._store.write(series.interval, both)
            self._tallies[series.symbol, series.interval].updated += revised.height
            self._report.revisions = pl.concat([self._report.revisions, revised])
        absent = stored.height - both.height
        if absent:
            logger.warning(
                "%s %s: the exchange does not give all bars that were derived from %s bars: %s unconfirmed",
                *(series.symbol, series.interval, FINER, count(absent, "bar stays", "bars stay")),
            )
        return both.height, absent
