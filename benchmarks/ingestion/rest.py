"""REST backfill to the durable store, against ccxt with pandas and CSV and against the steps of freqtrade."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from benchmarks.ingestion.measure import (
    Figures,
    Timing,
    in_turns,
    middle,
    process_cpu_s,
    scratch_folder,
    timed,
)
from benchmarks.ingestion.rest_rivals import (
    COLUMNS,
    MINUTE_MS,
    PAGE,
    CcxtAsync,
    CcxtSync,
    FreqtradeDownload,
    FreqtradePages,
    Task,
    bars_on_disk,
    touch,
)
from market.client import ExchangeClient
from market.exchange.launch import RunningExchange, start_exchange
from market.ingest import ingest
from market.store import KlineStore

NOW_MS = 1_741_867_230_500  # 2025-03-13T12:00:30.5Z: within a minute, as in life
_CONCURRENCY = 8


@dataclass(frozen=True)
class Sizes:
    """How much is fetched: by default sixty days of 1m bars, and ten days where a short backfill is measured."""

    symbols: int = 20
    bars: int = 86_400
    short_bars: int = 14_400
    rounds: int = 3


FULL, QUICK = Sizes(), Sizes(symbols=8, bars=6_000, short_bars=2_000, rounds=2)
_PAGES_MB = 640  # for every page that anyone asks for: rendered once, before the clock runs


@dataclass
class Run:
    """One contestant's run: its time, the server's CPU time in it, and (ours only) what it waited for."""

    timing: Timing
    server_cpu_s: float
    rows: int
    waited_s: float = 0.0


def run(sizes: Sizes, scratch: Path) -> Figures:
    """Let everyone fetch the same bars from the same server, in turns; stop where the bars are not the same."""
    with start_exchange(
        symbols=sizes.symbols, now=NOW_MS, speed=0, weight_limit=0, pages_mb=_PAGES_MB
    ) as exchange:
        task = _task(exchange, sizes.bars)
        everyone: dict[str, Rival] = {
            "ccxt_async": CcxtAsync(task),
            "ccxt_sync": CcxtSync(task),
            "freqtrade_pages": FreqtradePages(task),
            "freqtrade_download": FreqtradeDownload(task),
        }
        results = in_turns(_contestants(_Course(task, exchange, scratch), everyone), sizes.rounds)
        short = _task(exchange, sizes.short_bars)
        ccxt: dict[str, Rival] = {"ccxt_async": CcxtAsync(short), "ccxt_sync": CcxtSync(short)}
        beside = in_turns(_contestants(_Course(short, exchange, scratch), ccxt), sizes.rounds)
    return _figures(results, sizes) | _short_figures(beside)


def _task(exchange: RunningExchange, bars: int) -> Task:
    end = NOW_MS // MINUTE_MS * MINUTE_MS
    symbols = tuple(exchange.info()["symbols"])
    return Task(exchange.url, symbols, start=end - bars * MINUTE_MS, end=end, concurrency=_CONCURRENCY)


def _contestants(course: _Course, rivals: dict[str, Rival]) -> dict[str, Callable[[], Run]]:
    return {"klinecast": course.klinecast} | {name: partial(course.rival, it) for name, it in rivals.items()}


Rival = CcxtSync | CcxtAsync | FreqtradePages | FreqtradeDownload


class _Course:
    """Runs a contestant on the clock, once the server has rendered what it is going to be asked for."""

    def __init__(self, task: Task, exchange: RunningExchange, scratch: Path) -> None:
        self._task, self._exchange, self._scratch = task, exchange, scratch
        self._expected: pl.DataFrame | None = None

    def klinecast(self) -> Run:
        """Ingest into a new store, twice: the first time is for the server. Then read what is stored."""
        with scratch_folder(self._scratch, "warm") as home, KlineStore.open(home) as store:
            asyncio.run(self._ingest(store))
        with scratch_folder(self._scratch, "klinecast") as home, KlineStore.open(home) as store:
            before = process_cpu_s(self._exchange.pid)
            with timed() as timing:
                waited_s = asyncio.run(self._ingest(store))
            server_cpu_s = process_cpu_s(self._exchange.pid) - before
            bars = store.scan("1m", columns=["symbol", "open_time", *COLUMNS[1:]]).collect()
            return Run(timing, server_cpu_s, self._same(bars.sort("symbol", "open_time")), waited_s)

    async def _ingest(self, store: KlineStore) -> float:
        async with ExchangeClient(self._task.url, concurrency=_CONCURRENCY) as client:
            await ingest(
                client, store, list(self._task.symbols), ["1m"], start=self._task.start, end=self._task.end
            )
            return client.traffic.waited_s

    def rival(self, contestant: Rival) -> Run:
        """Let a rival fetch into an empty folder, then read it."""
        for _ in range(2):  # what the first time has pushed out of the server's cache, the second brings back
            asyncio.run(touch(self._task, in_steps=contestant.in_steps))
        with scratch_folder(self._scratch, "rival") as folder:
            before = process_cpu_s(self._exchange.pid)
            with timed() as timing:
                contestant(folder)
            server_cpu_s = process_cpu_s(self._exchange.pid) - before
            return Run(timing, server_cpu_s, self._same(bars_on_disk(folder)))

    def _same(self, bars: pl.DataFrame) -> int:
        """Compare with what the first contestant has; returns the number of bars."""
        if self._expected is None:
            self._expected = bars
        if not bars.equals(self._expected):
            raise SystemExit(f"the stores differ: {bars.height} bars, {self._expected.height} expected")
        return bars.height


def _figures(results: dict[str, list[Run]], sizes: Sizes) -> Figures:
    ours = results["klinecast"]
    rows = ours[0].rows
    seconds = _seconds(results)
    cpu = {name: middle([run.timing.cpu_s for run in runs]) for name, runs in results.items()}
    server = {name: middle([run.server_cpu_s for run in runs]) for name, runs in results.items()}
    ccxt = min(seconds["ccxt_async"], seconds["ccxt_sync"])
    return {
        "rest_rows": rows,
        "rest_pages": sizes.symbols * -(-sizes.bars // PAGE),
        "rest_rounds": sizes.rounds,
        **{
            "rest_rows_per_s" if name == "klinecast" else f"rest_rows_per_s_{name}": rows / took
            for name, took in seconds.items()
        },
        "rest_ratio_ccxt": ccxt / seconds["klinecast"],
        "rest_ratio_freqtrade_way": seconds["freqtrade_pages"] / seconds["klinecast"],
        "rest_ratio_freqtrade_download": seconds["freqtrade_download"] / seconds["klinecast"],
        "rest_ratio_best_rival": min(took for name, took in seconds.items() if name != "klinecast")
        / seconds["klinecast"],
        "rest_waiting_share": middle([max(0.0, 1 - run.timing.cpu_s / run.timing.wall_s) for run in ours]),
        "rest_requests_in_flight": middle([run.waited_s / run.timing.wall_s for run in ours]),
        "rest_server_busy_share": middle([run.server_cpu_s / run.timing.wall_s for run in ours]),
        "rest_cpu_ratio_best_rival": min(took for name, took in cpu.items() if name != "klinecast")
        / cpu["klinecast"],
        **{f"rest_cpu_us_per_row_{name}": took / rows * 1e6 for name, took in cpu.items()},
        **{f"rest_server_us_per_row_{name}": took / rows * 1e6 for name, took in server.items()},
    }


def _short_figures(results: dict[str, list[Run]]) -> Figures:
    rows, seconds = results["klinecast"][0].rows, _seconds(results)
    return {
        "rest_short_rows": rows,
        "rest_short_rows_per_s": rows / seconds["klinecast"],
        "rest_short_ratio_ccxt": min(seconds["ccxt_async"], seconds["ccxt_sync"]) / seconds["klinecast"],
    }


def _seconds(results: dict[str, list[Run]]) -> dict[str, float]:
    """Return everyone's middle wall time."""
    return {name: middle([run.timing.wall_s for run in runs]) for name, runs in results.items()}
