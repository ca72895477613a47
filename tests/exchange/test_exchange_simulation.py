"""The simulated market is a function of (seed, symbol, time), and its bars are sound."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import orjson
import polars as pl
import pytest

from market.exchange.aggregate import bar_opens
from market.exchange.climate import BLOCK_MS, MINUTE_MS
from market.exchange.listing import DAY_MS, GENESIS_MS, list_symbols
from market.exchange.minutes import CLOSE, HIGH, LOW, OPEN, QUOTE, TAKER_BASE, TAKER_QUOTE, TRADES, VOLUME
from market.exchange.simulate import SimulatedMarket
from market.exchange.source import KlineQuery
from market.klines import KLINE_COLUMNS, KLINE_SCHEMA, validate

NOW_MS = GENESIS_MS + 400 * DAY_MS + 7 * 3_600_000 + 30_500
START_MS = NOW_MS - 12 * DAY_MS


def page(market, symbol, interval, start: int | None, end: int | None, limit: int = 1000):
    return market.select(KlineQuery(symbol, interval, start, end, limit), NOW_MS)


def everything(market: SimulatedMarket, symbol: str, interval: str, start: int = START_MS, now: int = NOW_MS):
    """All closed bars from ``start``, paged forward."""
    times, bars = [], []
    while True:
        got, rows = market.select(KlineQuery(symbol, interval, start, None, 1000), now)
        times.append(got)
        bars.append(rows)
        if len(got) < 1000:
            break
        start = int(got[-1]) + 1
    return np.concatenate(times), np.concatenate(bars)


@pytest.fixture(scope="module")
def market() -> SimulatedMarket:
    return SimulatedMarket(12, 5)


PROGRAM = """
import hashlib
from market.exchange.simulate import SimulatedMarket
from market.exchange.source import KlineQuery
market = SimulatedMarket(3, 5)
query = KlineQuery("ETHUSDT", "1m", {start}, {end}, 1000)
print(hashlib.sha256(market.klines(query, {now}).body).hexdigest())
"""


def test_another_process_with_another_clock_serves_the_same_bytes(market):
    query = KlineQuery("ETHUSDT", "1m", START_MS, START_MS + 900 * MINUTE_MS, 1000)
    here = hashlib.sha256(market.klines(query, NOW_MS).body).hexdigest()
    program = PROGRAM.format(start=START_MS, end=START_MS + 900 * MINUTE_MS, now=NOW_MS + 33 * DAY_MS)
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


def test_paging_direction_and_page_size_do_not_matter(market):
    times, bars = everything(market, "SOLUSDT", "1m", NOW_MS - 3 * DAY_MS)
    fresh = SimulatedMarket(12, 5)
    end, pieces = NOW_MS, []
    while end > NOW_MS - 3 * DAY_MS:
        got, rows = page(fresh, "SOLUSDT", "1m", None, end, limit=377)
        pieces.append((got, rows))
        end = int(got[0]) - 1
    back_times = np.concatenate([got for got, _ in pieces[::-1]])
    back_bars = np.concatenate([rows for _, rows in pieces[::-1]])
    keep = back_times >= times[0]
    np.testing.assert_array_equal(back_times[keep], times)
    np.testing.assert_array_equal(back_bars[keep], bars)


def test_closed_bars_do_not_depend_on_the_clock(market):
    early_now = NOW_MS - 5 * DAY_MS - 12_345
    early_times, early = everything(SimulatedMarket(12, 5), "BTCUSDT", "15m", START_MS, early_now)
    times, late = everything(market, "BTCUSDT", "15m")
    closed = early_times + 15 * MINUTE_MS <= early_now
    assert closed[:-1].all()
    assert not closed[-1]  # the last one was open then
    count = int(closed.sum())
    np.testing.assert_array_equal(early_times[:count], times[:count])
    np.testing.assert_array_equal(early[:count], late[:count])
    assert (early[count] != late[count]).any()


def test_symbols_do_not_depend_on_how_many_are_listed(market):
    few = SimulatedMarket(2, 5)
    np.testing.assert_array_equal(
        page(few, "ETHUSDT", "5m", START_MS, None)[1], page(market, "ETHUSDT", "5m", START_MS, None)[1]
    )
    assert list_symbols(500, 5)[:12] == list_symbols(12, 5)
    assert len({spec.symbol for spec in list_symbols(2000, 5)}) == 2000


def test_another_seed_is_another_market(market):
    other = page(SimulatedMarket(12, 6), "BTCUSDT", "1m", START_MS, None)[1]
    assert (page(market, "BTCUSDT", "1m", START_MS, None)[1][:, CLOSE] != other[:, CLOSE]).mean() > 0.9


@pytest.mark.parametrize("symbol", ["BTCUSDT", "DOGEUSDT", "DOTUSDT"])
def test_bars_are_sound(market, symbol):
    _, bars = everything(market, symbol, "1m")
    opened, high, low, closed = bars[:, OPEN], bars[:, HIGH], bars[:, LOW], bars[:, CLOSE]
    volume, quote = bars[:, VOLUME], bars[:, QUOTE]
    assert (low > 0).all()
    assert (high >= np.maximum(opened, closed)).all()
    assert (low <= np.minimum(opened, closed)).all()
    assert (quote >= low * volume).all()
    assert (quote <= high * volume).all()
    assert (bars[:, TAKER_BASE] <= volume).all()
    assert (bars[:, TAKER_QUOTE] <= quote).all()
    assert (bars[:, TRADES] <= volume).all()
    silent = volume == 0
    assert (bars[silent, TRADES] == 0).all()
    assert (high[silent] == low[silent]).all()
    assert ((bars[:, TRADES] > 0) == ~silent).all()


def test_a_thin_symbol_has_minutes_without_trades_at_the_previous_close(market):
    assert market.specs["DOTUSDT"].thin
    times, bars = everything(market, "DOTUSDT", "1m")
    silent = np.flatnonzero(bars[1:-1, VOLUME] == 0) + 1
    silent = silent[times[silent] - times[silent - 1] == MINUTE_MS]
    assert len(silent) > 100
    assert (bars[silent, OPEN] == bars[silent - 1, CLOSE]).all()
    assert (bars[silent, CLOSE] == bars[silent - 1, CLOSE]).all()


def test_the_store_s_validation_refuses_none_of_them(market):
    for symbol, interval in (("BTCUSDT", "1m"), ("DOGEUSDT", "5m"), ("DOTUSDT", "1h"), ("ETHUSDT", "1d")):
        body = market.klines(KlineQuery(symbol, interval, START_MS, NOW_MS - 2 * DAY_MS, 1000), NOW_MS).body
        rows = [row[:11] for row in orjson.loads(body)]
        frame = pl.DataFrame(rows, schema=list(KLINE_COLUMNS), orient="row").cast(dict(KLINE_SCHEMA))
        good, refused = validate(frame, interval)
        assert refused.height == 0, refused
        assert good.height == len(rows) > 5


@pytest.mark.parametrize("interval", ["3m", "5m", "1h", "4h", "12h", "1d", "3d", "1w", "1M"])
def test_longer_intervals_are_exact_aggregates(market, interval):
    start = GENESIS_MS + 335 * DAY_MS  # 2024-12-01
    times, minutes = everything(market, "ADAUSDT", "1m", start)
    long_times, long_bars = market.select(KlineQuery("ADAUSDT", interval, start, None, 1000), NOW_MS)
    opens = bar_opens(times, interval)
    checked = 0
    for row in range(0, len(long_times), max(1, len(long_times) // 60)):
        inside = minutes[opens == long_times[row]]
        bar = long_bars[row]
        assert bar[OPEN] == inside[0, OPEN]
        assert bar[HIGH] == inside[:, HIGH].max()
        assert bar[LOW] == inside[:, LOW].min()
        assert bar[CLOSE] == inside[-1, CLOSE]
        np.testing.assert_array_equal(bar[VOLUME:], inside[:, VOLUME:].sum(axis=0))
        checked += 1
    # None is left out: every group of minutes from the first whole bar on has its bar (up to the limit).
    groups = np.unique(opens[opens >= start])[:1000]
    np.testing.assert_array_equal(long_times, groups)
    assert checked >= 2


def test_outages_are_missing_for_every_symbol_and_bars_wholly_inside_are_missing_too(market):
    last_block = (NOW_MS - GENESIS_MS) // BLOCK_MS - 1
    spans = [
        (GENESIS_MS + block * BLOCK_MS + first * MINUTE_MS, minutes)
        for block in range(last_block)
        for first, minutes in market.climate.outage_spans(block)
    ]
    assert 20 <= len(spans) <= 65  # a few a month, over 392 days
    assert all(2 <= minutes <= 60 for _, minutes in spans)
    swallowed = 0
    for start, minutes in spans:
        end = start + minutes * MINUTE_MS
        for symbol in ("BTCUSDT", "LTCUSDT"):
            if market.specs[symbol].listed_time > start:
                continue
            times, _ = page(market, symbol, "1m", start - 2 * MINUTE_MS, end + MINUTE_MS)
            inside = (times >= start) & (times < end)
            assert not inside.any()
            assert end in times or any(other <= end < other + 60 * MINUTE_MS for other, _ in spans)
            fives, _ = page(market, symbol, "5m", start - 10 * MINUTE_MS, end + 10 * MINUTE_MS)
            whole = range(-(-start // 300_000) * 300_000, end - 299_999, 300_000)
            swallowed += len(whole)
            assert not set(whole) & set(fives.tolist())
    assert swallowed > 0


def test_the_open_bar_grows_until_its_close():
    market = SimulatedMarket(1, 5)
    opened = NOW_MS - NOW_MS % (5 * MINUTE_MS)
    query = KlineQuery("BTCUSDT", "5m", opened, None, 10)
    seen = []
    for now in range(opened, opened + 300_000, 7_000):
        times, bars = market.select(query, now)
        assert times.tolist() == [opened]
        seen.append(bars[0])
    final = market.select(query, opened + 300_000)[1][0]
    path = np.array([*seen, final])
    assert (path[:, OPEN] == final[OPEN]).all()
    assert (np.diff(path[:, HIGH]) >= 0).all()
    assert (np.diff(path[:, LOW]) <= 0).all()
    for column in (VOLUME, TRADES, TAKER_BASE, QUOTE):
        assert (np.diff(path[:, column]) >= 0).all()
    assert (path[:, QUOTE] >= path[:, LOW] * path[:, VOLUME]).all()
    assert path[0, VOLUME] == 0 < path[-2, VOLUME] < final[VOLUME]


def test_volatility_clusters_and_returns_do_not(market):
    _, bars = everything(market, "BTCUSDT", "5m", NOW_MS - 60 * DAY_MS)
    returns = np.diff(np.log(bars[:-1, CLOSE].astype(float)))
    size = np.minimum(np.abs(returns), np.quantile(np.abs(returns), 0.995))

    def autocorrelation(x: np.ndarray, lag: int) -> float:
        return float(np.corrcoef(x[:-lag], x[lag:])[0, 1])

    assert autocorrelation(size, 1) > 0.15
    assert autocorrelation(size, 48) > 0.05
    assert abs(autocorrelation(returns, 1)) < 0.05
    activity = np.log1p(bars[1:-1, VOLUME].astype(float))
    assert np.corrcoef(activity, np.log(size + 1e-6))[0, 1] > 0.2  # volume goes with volatility


def test_symbols_share_a_common_factor(market):
    closes = [everything(market, name, "5m", START_MS)[1][:, CLOSE] for name in ("ETHUSDT", "SOLUSDT")]
    a, b = (np.diff(np.log(close.astype(float))) for close in closes)
    assert 0.15 < np.corrcoef(np.sign(a), np.sign(b))[0, 1] < 0.8


def test_a_later_listing_has_no_earlier_bars(market):
    late = [spec for spec in list_symbols(40, 5) if spec.listed_time > GENESIS_MS]
    assert late
    spec = late[0]
    whole = SimulatedMarket(40, 5)
    after = spec.listed_time + 3 * DAY_MS
    assert whole.instrument(spec.symbol, spec.listed_time - 1) is None
    times, _ = whole.select(KlineQuery(spec.symbol, "1m", 0, None, 5), after)
    assert 0 <= times[0] - spec.listed_time <= 60 * MINUTE_MS  # at once, or after an outage
    hours, _ = whole.select(KlineQuery(spec.symbol, "1h", 0, None, 5), after)
    assert times[0] - 3_600_000 < hours[0] <= times[0]
