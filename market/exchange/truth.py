"""What the simulated market's generator knows: the best possible forecast, and what was planted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.exchange.aggregate import bar_ends
from market.exchange.climate import BLOCK_MINUTES, MINUTE_MS, block_of, block_start
from market.exchange.listing import GENESIS_MS
from market.exchange.minutes import KAPPA, SIGNAL
from market.exchange.simulate import SimulatedMarket
from market.exchange.source import KlineQuery
from market.intervals import interval_ms


@dataclass(frozen=True)
class BarTruth:
    """The best possible forecast at the close of each bar; arrays of shape (bars,).

    ``p_up`` is the probability that the log return over the horizon is positive, ``mean`` and ``std`` its
    conditional moments. ``span`` is the time from the first open to the last close, in ms.
    """

    open_time: NDArray[np.int64]
    p_up: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    span: tuple[int, int]


def truth_of_bars(market: SimulatedMarket, query: KlineQuery, horizon: int, now_ms: int) -> BarTruth:
    """Return the truth about the closed bars that answer a query.

    With z the planted signal at the bar's close, v the volatility of the H minutes that follow, g the
    anomalies' gain and phi the signal's memory of a minute:

    mean = KAPPA * z * sum_j v[j] * phi^(j-1),
    var  = sum_j (v[j] * g[j])^2 + KAPPA^2 * (1 - phi^2) * sum_i G[i]^2, G[i] = sum_{j>i} v[j] * phi^(j-1-i),
    p_up = Phi(mean / std).

    The volatility path is taken as known: it is drawn independently of every sign.
    """
    times, _ = market.select(query, now_ms)
    times = times[bar_ends(times, query.interval) <= now_ms]
    if not len(times):
        empty = np.empty(0)
        return BarTruth(times, empty, empty, empty, (now_ms, now_ms))
    length = interval_ms(query.interval)
    minutes = horizon * length // MINUTE_MS
    closes = (
        times + length - GENESIS_MS
    ) // MINUTE_MS - 1  # last minute of each bar, counted from the genesis
    state = _Path(market, query.symbol, int(closes[0]), int(closes[-1]) + minutes)
    mean, variance = _moments(state, closes, minutes)
    std = np.sqrt(variance)
    p_up = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in (mean / std).tolist()])
    return BarTruth(times, p_up, mean, std, (int(times[0]), int(times[-1]) + length))


class _Path:
    """Signal and volatilities of a run of minutes, across blocks."""

    def __init__(self, market: SimulatedMarket, symbol: str, first: int, last: int) -> None:
        generator = market.generators[symbol]
        blocks = range(first // BLOCK_MINUTES, last // BLOCK_MINUTES + 1)
        states = [generator.state(block) for block in blocks]
        self.origin = blocks[0] * BLOCK_MINUTES
        self.signal = np.concatenate([state.signal[1:] for state in states])
        self.volatility = np.concatenate([state.volatility for state in states])
        self.noise_volatility = np.concatenate([state.noise_volatility for state in states])


def _moments(
    path: _Path, closes: NDArray[np.int64], minutes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of the log return over the ``minutes`` after each close."""
    at = closes - path.origin
    carried = np.zeros(len(at))  # G of the minutes from j on, built from the end of the horizon
    variance = np.zeros(len(at))
    innovation = KAPPA**2 * (1.0 - SIGNAL.phi**2)
    for j in range(minutes, 0, -1):
        variance += path.noise_volatility[at + j] ** 2
        carried = path.volatility[at + j] + SIGNAL.phi * carried
        if j > 1:
            variance += innovation * carried**2
    return KAPPA * path.signal[at] * carried, variance


def planted_anomalies(
    market: SimulatedMarket, symbol: str, start_ms: int, end_ms: int, now_ms: int
) -> list[dict[str, Any]]:
    """Return the anomalies of a symbol that touch [start, end) and have begun by now."""
    generator = market.generators[symbol]
    found = []
    for block in range(max(block_of(start_ms), generator.first_block), block_of(min(end_ms, now_ms)) + 1):
        for anomaly in generator.state(block).anomalies:
            first = block_start(block) + anomaly.first * MINUTE_MS
            last = first + anomaly.minutes * MINUTE_MS
            if first < end_ms and last > start_ms and first <= now_ms:
                found.append(
                    {
                        "kind": anomaly.kind,
                        "start_time": first,
                        "end_time": last,
                        "magnitude": anomaly.magnitude,
                        "sign": 0 if anomaly.kind == "volume" else anomaly.sign,
                    }
                )
    return found


def planted_outages(market: SimulatedMarket, start_ms: int, end_ms: int, now_ms: int) -> list[dict[str, int]]:
    """Return the exchange's outages that touch [start, end) and have begun by now."""
    found = []
    for block in range(max(block_of(start_ms), 0), block_of(min(end_ms, now_ms)) + 1):
        for first, minutes in sorted(market.climate.outage_spans(block)):
            start = block_start(block) + first * MINUTE_MS
            end = start + minutes * MINUTE_MS
            if start < end_ms and end > start_ms and start <= now_ms:
                found.append({"start_time": start, "end_time": end})
    return found
