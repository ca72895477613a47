"""Markets whose best possible forecast is known: a random walk, and the built-in exchange's planted signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from market.exchange.aggregate import bar_ends, bar_opens
from market.exchange.listing import GENESIS_MS
from market.exchange.minutes import CLOSE, HIGH, LOW, OPEN, QUOTE, TAKER_BASE, TAKER_QUOTE, TRADES, VOLUME
from market.exchange.simulate import SimulatedMarket
from market.exchange.source import KlineQuery
from market.exchange.truth import truth_of_bars
from market.intervals import DAY_MS, interval_ms

LISTED_MS: Final = GENESIS_MS + 364 * DAY_MS
"""Every symbol of the simulated market is listed by then."""

_MINUTE_MS: Final = 60_000
_STEPS: Final = 12
"""Steps of the walk inside a bar, from which its high and low are taken."""
_MINUTE_VOLATILITY: Final = 7e-4
_COMMON_SHARE: Final = 0.6
"""Correlation of each symbol's returns with the market's, about that of large coins."""
_TAKER_MEMORY: Final = 0.98
"""Memory from bar to bar of the takers' side, as slow as the built-in market's signal; here it means nothing."""


@dataclass(frozen=True)
class SyntheticMarket:
    """Bars of several symbols on one time grid, as `kernels.compute` takes them.

    Attributes
    ----------
    open_time
        (T,) int64, ms since epoch, UTC.
    symbols
        S names.
    interval
        Interval of the bars.
    columns
        Name to (T, S) float64; NaN where a bar is missing.
    """

    open_time: NDArray[np.int64]
    symbols: tuple[str, ...]
    interval: str
    columns: dict[str, NDArray[np.float64]]


def random_walk(interval: str, *, bars: int, symbols: int, seed: int) -> SyntheticMarket:
    """Draw a market in which nothing that has happened says which way the price goes next.

    Log prices are sums of independent normal steps of one volatility, partly shared by all symbols; highs and
    lows are those of the steps inside the bar. Volume, trades and the takers' side have a memory of their own and
    know nothing of prices. Prices are not rounded to ticks: the bounce between two ticks would be a signal.
    """
    random = np.random.default_rng(seed)
    minutes = interval_ms(interval) / _MINUTE_MS
    deviation = _MINUTE_VOLATILITY * np.sqrt(minutes / _STEPS)
    own = random.standard_normal((bars, _STEPS, symbols))
    common = random.standard_normal((bars, _STEPS, 1))
    steps = deviation * (_COMMON_SHARE * common + np.sqrt(1 - _COMMON_SHARE**2) * own)
    level = np.cumsum(steps.reshape(-1, symbols), axis=0).reshape(bars, _STEPS, symbols)
    opened = np.concatenate((np.zeros((1, symbols)), level[:-1, -1]))
    price = {
        "open": opened,
        "high": np.maximum(opened, level.max(axis=1)),
        "low": np.minimum(opened, level.min(axis=1)),
        "close": level[:, -1],
    }
    columns = {name: 100.0 * np.exp(value) for name, value in price.items()}
    activity = np.exp(0.5 * _remembering(random, (bars, symbols), 0.9))
    share = 1 / (1 + np.exp(-0.5 * _remembering(random, (bars, symbols), _TAKER_MEMORY)))
    volume = 1_000.0 * minutes * activity
    columns |= {"volume": volume, "quote_volume": volume * columns["close"]}
    columns |= {"trades": np.rint(100 * minutes * activity) + 1, "taker_buy_base": volume * share}
    columns["taker_buy_quote"] = columns["taker_buy_base"] * columns["close"]
    names = tuple(f"WALK{i}USDT" for i in range(symbols))
    times = LISTED_MS + interval_ms(interval) * np.arange(bars, dtype=np.int64)
    return SyntheticMarket(times, names, interval, columns)


def longer_bars(market: SyntheticMarket, interval: str) -> SyntheticMarket:
    """Combine bars without holes into those of a longer interval; one whose first part is not there is left out."""
    opens = bar_opens(market.open_time, interval)
    first = np.flatnonzero(opens == market.open_time)
    last = np.append(first[1:], len(opens)) - 1
    columns = {}
    for name, values in market.columns.items():
        if name in ("open", "close"):
            columns[name] = values[first if name == "open" else last]
        else:
            columns[name] = _COMBINED.get(name, np.add).reduceat(values, first, axis=0)
    columns = {name: np.ascontiguousarray(values) for name, values in columns.items()}
    return SyntheticMarket(market.open_time[first], market.symbols, interval, columns)


def planted_market(*, bars: int, symbols: int, seed: int, interval: str = "5m") -> SyntheticMarket:
    """Simulate a small market as the built-in exchange does, with the signal that it plants."""
    market = SimulatedMarket(symbols, seed)
    step = interval_ms(interval)
    times = LISTED_MS + step * np.arange(bars, dtype=np.int64)
    columns = {name: np.full((bars, symbols), np.nan) for name, _ in _SIMULATED_COLUMNS}
    for s, spec in enumerate(market.specs.values()):
        opened, values = market.select(*_asked(spec.symbol, interval, times))
        at = (opened - times[0]) // step
        price, lot = 10.0**-spec.tick_decimals, 10.0**-spec.step_decimals
        for name, column in _SIMULATED_COLUMNS:
            columns[name][at, s] = values[:, column] * _unit(name, price, lot)
    return SyntheticMarket(times, tuple(market.specs), interval, columns)


def planted_p_up(made: SyntheticMarket, *, seed: int, horizon: int) -> NDArray[np.float64]:
    """Return the true probability (T, S) that the price rises over the horizon, of a market of `planted_market`.

    NaN where there is no bar.
    """
    market = SimulatedMarket(len(made.symbols), seed)
    best = np.full((len(made.open_time), len(made.symbols)), np.nan)
    for s, symbol in enumerate(made.symbols):
        query, now_ms = _asked(symbol, made.interval, made.open_time)
        truth = truth_of_bars(market, query, horizon, now_ms)
        best[(truth.open_time - made.open_time[0]) // interval_ms(made.interval), s] = truth.p_up
    return best


_COMBINED: Final = {"high": np.maximum, "low": np.minimum}
_SIMULATED_COLUMNS: Final = (
    ("open", OPEN),
    ("high", HIGH),
    ("low", LOW),
    ("close", CLOSE),
    ("volume", VOLUME),
    ("quote_volume", QUOTE),
    ("trades", TRADES),
    ("taker_buy_base", TAKER_BASE),
    ("taker_buy_quote", TAKER_QUOTE),
)


def _asked(symbol: str, interval: str, times: NDArray[np.int64]) -> tuple[KlineQuery, int]:
    """Return the question for all of these bars, and a time at which all of them have closed."""
    query = KlineQuery(symbol, interval, int(times[0]), int(times[-1]), len(times))
    return query, int(bar_ends(times[-1:], interval)[0])


def _unit(name: str, price: float, lot: float) -> float:
    """Return what one of the market's whole numbers is worth."""
    if name == "trades":
        return 1.0
    if name in ("volume", "taker_buy_base"):
        return lot
    return price * lot if name in ("quote_volume", "taker_buy_quote") else price


def _remembering(random: np.random.Generator, shape: tuple[int, int], memory: float) -> NDArray[np.float64]:
    """Draw an autoregressive series (T, S) of variance 1."""
    noise = random.standard_normal(shape)
    series = np.empty(shape)
    series[0] = noise[0]
    fresh = np.sqrt(1 - memory**2)
    for t in range(1, len(series)):
        series[t] = memory * series[t - 1] + fresh * noise[t]
    return series
