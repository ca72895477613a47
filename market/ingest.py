"""Bring a store up to date with an exchange: complete, exact, and asking only for what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from market.ingest_plan import RECHECK_MS
from market.ingest_report import IngestReport
from market.ingest_run import IngestRun
from market.intervals import DAY_MS, interval_ms
from market.loop_thread import run_sync
from market.progress import ProgressCallback, telling_trouble
from market.source import KlineSource
from market.sources.opening import open_source
from market.store import KlineStore

__all__ = ["DAY_MS", "ingest", "ingest_sync", "run_sync"]


async def ingest(
    client: KlineSource,
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
) -> IngestReport:
    """Store every closed bar of `symbols` on `intervals` from `start` on that the store lacks.

    May be interrupted at any time, by Ctrl-C, cancellation or kill -9: a page is in the store as a whole or
    not at all, and the next run goes on from there. See docs/ingestion.md for what is asked and when.

    Parameters
    ----------
    client : KlineSource
        Where the bars come from; its clock decides which bars are closed.
    store : KlineStore
        Where they go.
    start : int or mapping from interval to int
        First open time wanted, ms; 0 for everything there is.
    end : int, optional
        Bars that open before this are wanted, ms; default: up to now.
    progress : callable, optional
        Called in the event loop with a `Progress` after every durable page, once at the start, and when the
        exchange gives trouble.
    recheck_after_ms : int
        Shortest time, on the exchange's clock, after which a bar that the exchange did not have is asked for
        again: once after this, and then after as long as the gap is old, a week at most.
    derive : bool
        Build the newest bars of longer intervals from stored 1m bars where that is exact, and confirm them later.
    now : int, optional
        The exchange's clock, where it has just been read, ms; default: it is asked.

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
    run = IngestRun(client, store, progress, derive)
    async with telling_trouble(client.traffic, run.tell_trouble):
        await run.prepare(
            list(dict.fromkeys(symbols)), list(dict.fromkeys(intervals)), start, end, recheck_after_ms, now
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
    recheck_after_ms: int = RECHECK_MS,
    derive: bool = True,
    **client_options: Any,
) -> IngestReport:
    """Do what `ingest` does and wait for it; `client_options` go to `market.sources.opening.open_source`."""

    async def work() -> IngestReport:
        async with open_source(base_url, **client_options) as client:
            return await ingest(
                client,
                store,
                symbols,
                intervals,
                start=start,
                end=end,
                progress=progress,
                recheck_after_ms=recheck_after_ms,
                derive=derive,
            )

    return run_sync(work)
