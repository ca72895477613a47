"""The simulated market: any bar of any symbol and interval, at any time, from the seed alone."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import numpy as np

from market.exchange.aggregate import Bars, Times, aggregate, bar_ends, partial_minute
from market.exchange.climate import (
    BLOCK_MINUTES,
    MINUTE_MS,
    Climate,
    block_of,
    block_start,
)
from market.exchange.listing import DAY_MS, GENESIS_MS, SymbolSpec, list_symbols
from market.exchange.minutes import CLOSE, HIGH, LOW, OPEN, QUOTE, TRADES, VOLUME, MinuteGenerator
from market.exchange.rendering import render_rows
from market.exchange.source import DayStatistics, Instrument, KlinePage, KlineQuery, no_statistics
from market.intervals import INTERVAL_MS, PROTOCOL_INTERVALS, floor_time

_CACHE_BYTES: Final = 128 << 20
_BLOCK_BYTES: Final = 1 << 20  # a block of minutes takes about 0.9 MiB
_LONG: Final = ("3d", "1w", "1M")  # do not fit the eight-day blocks; made from days


class SimulatedMarket:
    """A market that is a function of (seed, symbol, time).

    Parameters
    ----------
    symbols
        How many symbols are listed.
    seed
        Seed of everything; the same seed gives the same bars for ever.
    """

    kind = "simulated"

    def __init__(self, symbols: int, seed: int) -> None:
        self.seed = seed
        self.climate = Climate(seed)
        self.specs: dict[str, SymbolSpec] = {spec.symbol: spec for spec in list_symbols(symbols, seed)}
        self.generators = {
            name: MinuteGenerator(spec, seed, self.climate) for name, spec in self.specs.items()
        }
        self._cache: OrderedDict[tuple[str, str, int], tuple[Times, Bars]] = OrderedDict()
        self._cached_bytes = 0
        # The newest block of every symbol must fit, or a sweep over all symbols would generate each one anew.
        self._cache_limit = max(_CACHE_BYTES, int(1.25 * symbols * _BLOCK_BYTES))

    # What is listed

    def instruments(self, now_ms: int) -> list[Instrument]:
        """Return the symbols listed by ``now_ms``."""
        return [_instrument(spec) for spec in self.specs.values() if spec.listed_time <= now_ms]

    def instrument(self, symbol: str, now_ms: int) -> Instrument | None:
        """Return one symbol if it is listed by ``now_ms``."""
        spec = self.specs.get(symbol)
        return _instrument(spec) if spec is not None and spec.listed_time <= now_ms else None

    def serves(self, interval: str) -> bool:
        """Every interval of the protocol but 1s: one minute is the base."""
        return interval in PROTOCOL_INTERVALS and interval != "1s"

    def describe(self) -> dict[str, Any]:
        """Return the seed and the genesis of the market."""
        return {"seed": self.seed, "genesis_ms": GENESIS_MS}

    def warm(self, symbol: str, now_ms: int) -> bool:
        """Sum one more block of a symbol's history; True where nothing is left to sum."""
        generator = self.generators[symbol]
        if generator.first_block + generator.known_blocks() > block_of(now_ms):
            return True
        generator.extend()
        return False

    # Bars

    def klines(self, query: KlineQuery, now_ms: int) -> KlinePage:
        """Render one page of bars as of ``now_ms``."""
        times, bars = self.select(query, now_ms)
        spec = self.specs[query.symbol]
        ends = bar_ends(times, query.interval)
        body = render_rows(times, ends - 1, bars, spec.tick_decimals, spec.step_decimals, query.microseconds)
        return KlinePage(body, len(times), bool(len(times)) and int(ends[-1]) <= now_ms)

    def select(self, query: KlineQuery, now_ms: int) -> tuple[Times, Bars]:
        """Return the bars that answer a query, oldest first: open times (n,) and bars (n, BAR_COLUMNS)."""
        listed = self.specs[query.symbol].listed_time
        first = listed if query.start_time is None else max(query.start_time, listed)
        last = now_ms if query.end_time is None else min(query.end_time, now_ms)
        # A bar that began before the listing but contains it has an earlier open time.
        if query.start_time is None or query.start_time < listed:
            first = max(floor_time(first, query.interval), query.start_time or 0)
        if last < first:
            return _nothing()
        if query.interval in _LONG:
            pieces = [self._long_bars(query, first, last, now_ms)]
        elif query.start_time is None:
            pieces = self._newest(query, first, last, now_ms)
        else:
            pieces = self._oldest(query, first, last, now_ms)
        times = np.concatenate([piece[0] for piece in pieces])
        bars = np.concatenate([piece[1] for piece in pieces])
        if query.start_time is None:
            return times[-query.limit :], bars[-query.limit :]
        return times[: query.limit], bars[: query.limit]

    def _oldest(self, query: KlineQuery, first: int, last: int, now_ms: int) -> list[tuple[Times, Bars]]:
        pieces, count = [_nothing()], 0
        for block in range(max(block_of(first), 0), block_of(last) + 1):
            piece = self._closed(query, block, first, last, now_ms)
            pieces.append(piece)
            count += len(piece[0])
            if count >= query.limit:
                return pieces
        pieces.append(self._open_bar(query, first, last, now_ms))
        return pieces

    def _newest(self, query: KlineQuery, first: int, last: int, now_ms: int) -> list[tuple[Times, Bars]]:
        pieces = [self._open_bar(query, first, last, now_ms)]
        count = len(pieces[0][0])
        for block in range(block_of(last), max(block_of(first), 0) - 1, -1):
            if count >= query.limit:
                break
            piece = self._closed(query, block, first, last, now_ms)
            pieces.append(piece)
            count += len(piece[0])
        return pieces[::-1]

    def _closed(
        self, query: KlineQuery, block: int, first: int, last: int, now_ms: int
    ) -> tuple[Times, Bars]:
        """Return the bars of a block that opened in [first, last] and have closed by now."""
        times, bars = self.block_bars(query.symbol, query.interval, block)
        low = int(np.searchsorted(times, first))
        latest = min(last, now_ms - INTERVAL_MS[query.interval])
        high = int(np.searchsorted(times, latest, side="right"))
        return times[low:high], bars[low:high]

    def _long_bars(self, query: KlineQuery, first: int, last: int, now_ms: int) -> tuple[Times, Bars]:
        """Return closed bars of 3d, 1w or 1M, and the open one, that opened in [first, last]."""
        generator = self.generators[query.symbol]
        start = floor_time(first, query.interval)
        blocks = range(max(block_of(start), generator.first_block), block_of(now_ms) + 1)
        days = [self.block_bars(query.symbol, "1d", block) for block in blocks]
        day_times = np.concatenate([times for times, _ in days])
        within = (day_times >= start) & (day_times + DAY_MS <= now_ms)
        bars = np.concatenate([values for _, values in days])[within]
        times, combined = aggregate(day_times[within], bars, query.interval)
        closed = (times >= first) & (times <= last) & (bar_ends(times, query.interval) <= now_ms)
        open_time, open_bar = self._open_bar(query, first, last, now_ms)
        return np.concatenate((times[closed], open_time)), np.concatenate((combined[closed], open_bar))

    def _open_bar(self, query: KlineQuery, first: int, last: int, now_ms: int) -> tuple[Times, Bars]:
        """Return the bar that is open now, if it opened in [first, last] and has a minute to show."""
        opened = floor_time(now_ms, query.interval)
        if not first <= opened <= last:
            return _nothing()
        times, minutes = self.minutes(query.symbol, opened, now_ms)
        return aggregate(times, minutes, query.interval)

    def minutes(self, symbol: str, start_ms: int, now_ms: int) -> tuple[Times, Bars]:
        """Return the one-minute bars from ``start_ms`` to now, the last one as far as it has come."""
        blocks = range(max(block_of(start_ms), self.generators[symbol].first_block), block_of(now_ms) + 1)
        pieces = [_nothing(), *(self.block_bars(symbol, "1m", block) for block in blocks)]
        times = np.concatenate([piece[0] for piece in pieces])
        low, high = np.searchsorted(times, start_ms), np.searchsorted(times, now_ms, side="right")
        times = times[low:high]
        bars = np.concatenate([piece[1] for piece in pieces])[low:high]
        if len(times) and times[-1] + MINUTE_MS > now_ms:
            bars[-1] = partial_minute(bars[-1], now_ms - int(times[-1]))
        return times, bars

    def block_bars(self, symbol: str, interval: str, block: int) -> tuple[Times, Bars]:
        """Return all bars of a block, whatever the clock says; interval at most 1d."""
        key = (symbol, interval, block)
        found = self._cache.get(key)
        if found is not None:
            self._cache.move_to_end(key)
            return found
        if block < self.generators[symbol].first_block:
            made = _nothing()
        elif interval == "1m":
            made = self._minute_block(symbol, block)
        else:
            made = aggregate(*self.block_bars(symbol, "1m", block), interval)
        self._remember(key, made)
        return made

    def _minute_block(self, symbol: str, block: int) -> tuple[Times, Bars]:
        bars = self.generators[symbol].bars(block)
        times = block_start(block) + MINUTE_MS * np.arange(BLOCK_MINUTES, dtype=np.int64)
        exists = self.climate.block(block).trading & (times >= self.specs[symbol].listed_time)
        if exists.all():
            return times, bars
        return times[exists], bars[exists]

    def _remember(self, key: tuple[str, str, int], made: tuple[Times, Bars]) -> None:
        self._cache[key] = made
        self._cached_bytes += made[0].nbytes + made[1].nbytes
        while self._cached_bytes > self._cache_limit and len(self._cache) > 1:
            _, (times, bars) = self._cache.popitem(last=False)
            self._cached_bytes -= times.nbytes + bars.nbytes

    # The day's statistics

    def day_statistics(self, symbol: str, now_ms: int) -> DayStatistics:
        """Return the rolling 24 hours up to now."""
        spec = self.specs[symbol]
        start = now_ms - DAY_MS + MINUTE_MS
        times, bars = self.minutes(symbol, start - start % MINUTE_MS, now_ms)
        if not len(times):
            return no_statistics(symbol, now_ms)
        tick, lot = 10.0**-spec.tick_decimals, 10.0**-spec.step_decimals
        traded = np.flatnonzero(bars[:, VOLUME])
        latest = bars[traded[-1]] if len(traded) else bars[-1]
        return DayStatistics(
            symbol=symbol,
            open_time=now_ms - DAY_MS,
            close_time=now_ms,
            open=int(bars[0, OPEN]) * tick,
            high=int(bars[:, HIGH].max()) * tick,
            low=int(bars[:, LOW].min()) * tick,
            last=int(bars[-1, CLOSE]) * tick,
            previous_close=int(bars[0, OPEN]) * tick,
            last_quantity=int(latest[VOLUME]) // max(int(latest[TRADES]), 1) * lot,
            volume=int(bars[:, VOLUME].sum()) * lot,
            quote_volume=int(bars[:, QUOTE].sum()) * tick * lot,
            trades=int(bars[:, TRADES].sum()),
            tick=tick,
        )


def _nothing() -> tuple[Times, Bars]:
    return np.empty(0, dtype=np.int64), np.empty((0, 9), dtype=np.int64)


def _instrument(spec: SymbolSpec) -> Instrument:
    return Instrument(spec.symbol, spec.base, spec.quote, "TRADING", spec.tick_decimals, spec.step_decimals)
