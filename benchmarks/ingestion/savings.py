"""A day of sweeps every minute: bars and weight that the exchange counts, against fetching 100 bars each time.

The day begins at 00:00 UTC, after a day whose longer bars were derived, so that all that is asked once a day falls into
its first hour. Where a whole day would take too long, some hours are run, and the others count as the mean of those
after the first. `savings_hours_run` says how many were run, `savings_later_hours_weight_...` how alike they were.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ingestion.measure import Figures, percentile, scratch_folder
from market.client import ExchangeClient
from market.exchange.launch import RunningExchange, start_exchange
from market.ingest import ingest_sync
from market.intervals import interval_ms
from market.store import KlineStore

INTERVALS = ("1m", "5m", "15m")
REFETCHED = 100
_DAY = 1_741_824_000_000  # 2025-03-13
_MINUTE_MS, _HOUR_MS, _DAY_MS = 60_000, 3_600_000, 86_400_000
_AFTER_CLOSE_MS = 2_000


@dataclass(frozen=True)
class Sizes:
    """How many symbols, how many hours (at least 2) at most, and after how many seconds no other is begun."""

    symbols: int = 300
    hours: int = 24
    seconds: int = 180
    refetches: int = 2


FULL, QUICK = Sizes(), Sizes(symbols=40, hours=2, seconds=30)


@dataclass(frozen=True)
class Served:
    """What the exchange counts."""

    requests: int
    bars: int
    weight: int

    def __sub__(self, other: Served) -> Served:
        return Served(self.requests - other.requests, self.bars - other.bars, self.weight - other.weight)

    def __add__(self, other: Served) -> Served:
        return Served(self.requests + other.requests, self.bars + other.bars, self.weight + other.weight)

    def times(self, count: float) -> Served:
        """Return so many times as much."""
        return Served(round(self.requests * count), round(self.bars * count), round(self.weight * count))


def served(exchange: RunningExchange) -> Served:
    """Ask the exchange what it has counted so far; bars are the rows of klines."""
    counts = exchange.info()["served"]
    bars = counts["routes"].get("/api/v3/klines", {}).get("rows", 0)
    return Served(counts["total"]["requests"], bars, counts["total"]["weight"])


def run(sizes: Sizes, scratch: Path) -> Figures:
    """Sweep the day, then refetch a few times, and compare what the exchange has counted."""
    with (
        start_exchange(symbols=sizes.symbols, now=_DAY - _DAY_MS, speed=0, weight_limit=0) as exchange,
        scratch_folder(scratch, "day") as home,
        KlineStore.open(home) as store,
    ):
        day = _Day(exchange, store)
        day.begin()
        hours: list[Served] = []
        started = time.perf_counter()
        while len(hours) < 2 or (len(hours) < sizes.hours and time.perf_counter() - started < sizes.seconds):
            hours.append(day.hour(len(hours)))
        later = sum(hours[2:], hours[1])
        ours = hours[0] + later.times(23 / (len(hours) - 1))
        each = asyncio.run(_refetch(exchange, day.symbols, sizes.refetches))
    sweeps = _DAY_MS // _MINUTE_MS
    theirs = each.times(sweeps)
    return {
        "savings_symbols": sizes.symbols,
        "savings_hours_run": len(hours),
        "savings_sweeps_run": len(day.seconds),
        "savings_bars": ours.bars,
        "savings_weight": ours.weight,
        "savings_requests": ours.requests,
        "savings_first_hour_weight": hours[0].weight,
        "savings_later_hours_weight_min": min(hour.weight for hour in hours[1:]),
        "savings_later_hours_weight_max": max(hour.weight for hour in hours[1:]),
        "refetch_bars": theirs.bars,
        "refetch_weight": theirs.weight,
        "refetch_requests": theirs.requests,
        "bars_saved_share": 1 - ours.bars / theirs.bars,
        "weight_saved_share": 1 - ours.weight / theirs.weight,
        "sweep_s_p50": percentile(day.seconds, 50),
        "sweep_s_p99": percentile(day.seconds, 99),
    }


class _Day:
    """The store through the simulated day, and how long each sweep took."""

    def __init__(self, exchange: RunningExchange, store: KlineStore) -> None:
        self._exchange, self._store = exchange, store
        self.symbols: list[str] = exchange.info()["symbols"]
        self.seconds: list[float] = []

    def begin(self) -> None:
        """Fill the store up to the day, its longer bars derived as a day of sweeps leaves them."""
        self._sweep()
        for hour in range(3, 25, 3):
            self._exchange.set_clock(_DAY - _DAY_MS + hour * _HOUR_MS - _MINUTE_MS + _AFTER_CLOSE_MS)
            self._sweep()

    def hour(self, number: int) -> Served:
        """Sweep every minute of an hour of the day; returns what that has cost."""
        before = served(self._exchange)
        for minute in range(60):
            self._exchange.set_clock(_DAY + number * _HOUR_MS + minute * _MINUTE_MS + _AFTER_CLOSE_MS)
            started = time.perf_counter()
            self._sweep()
            self.seconds.append(time.perf_counter() - started)
        self._require_complete(_DAY + number * _HOUR_MS)
        return served(self._exchange) - before

    def _sweep(self) -> None:
        """Ingest with a client of its own, as every run of the platform has."""
        report = ingest_sync(
            self._exchange.url, self._store, self.symbols, INTERVALS, start=_DAY - 2 * _DAY_MS
        )
        if report.failures:
            raise SystemExit(f"a sweep failed: {report}")

    def _require_complete(self, hour: int) -> None:
        """Nothing of the hour may be missing: whoever asks for less than is needed saves nothing."""
        for interval in INTERVALS:
            end = hour + 50 * _MINUTE_MS
            lacking = self._store.missing_many(
                self.symbols,
                interval,
                hour - interval_ms(interval),
                end // interval_ms(interval) * interval_ms(interval),
            )
            if any(lacking.values()):
                raise SystemExit(f"{interval} bars of an hour are missing: {lacking}")


async def _refetch(exchange: RunningExchange, symbols: list[str], times: int) -> Served:
    """Fetch the last 100 bars of everything, some times; returns what once costs, the same each time."""
    async with ExchangeClient(exchange.url) as client:
        costs = set()
        for _ in range(times):
            before = served(exchange)
            for interval in INTERVALS:
                pages = (client.klines_page(symbol, interval, limit=REFETCHED) for symbol in symbols)
                await asyncio.gather(*pages)
            costs.add(served(exchange) - before)
    if len(costs) != 1:
        raise SystemExit(f"refetching did not cost the same each time: {costs}")
    return costs.pop()
