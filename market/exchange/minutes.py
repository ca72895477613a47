"""The generator of one simulated symbol: latent state, returns and one-minute bars, block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from market.exchange.anomalies import Anomaly, Disturbance, disturb, draw_anomalies
from market.exchange.climate import BLOCK_MINUTES, Climate, block_of
from market.exchange.listing import SymbolSpec
from market.exchange.noise import NoiseStream, TruncatedOU

KAPPA: Final = 0.0405
"""The planted drift: expected return of the next minute in units of its volatility, per unit of z."""

SIGNAL_TIME_CONSTANT: Final = 240.0
"""Minutes after which the planted signal z has lost 1 - 1/e of its memory."""

TAKER_SLOPE: Final = 0.5
"""The taker-buy share of a minute's volume is 1 / (1 + exp(-TAKER_SLOPE * z))."""

SIGNAL: Final = TruncatedOU(time_constant=SIGNAL_TIME_CONSTANT, doublings=11)
_NERVES: Final = TruncatedOU(time_constant=45.0, doublings=8)
_NERVES_SD: Final = 0.25
_NO_TRADE_SHARE: Final = 0.04

# Columns of a block of bars, all int64: prices in ticks, quantities in lots, values in tick * lot.
OPEN, HIGH, LOW, CLOSE, VOLUME, QUOTE, TRADES, TAKER_BASE, TAKER_QUOTE = range(9)
BAR_COLUMNS: Final = 9


@dataclass(frozen=True)
class StateBlock:
    """The generator's state over one block.

    ``signal`` has shape (BLOCK_MINUTES + 1,): element i + 1 is z at the close of minute i, element 0 that of
    the minute before. ``volatility`` (BLOCK_MINUTES,) scales drift and noise, ``noise_volatility`` is it
    times the anomalies' gain, ``log_return`` is the log return of each minute.
    """

    signal: NDArray[np.float64]
    volatility: NDArray[np.float64]
    noise_volatility: NDArray[np.float64]
    log_return: NDArray[np.float64]
    anomalies: list[Anomaly]
    disturbance: Disturbance


class MinuteGenerator:
    """All minutes of one simulated symbol, reachable in any order.

    return[t] = KAPPA * v[t] * z[t-1] + v[t] * g[t] * e[t], with z the planted signal, v the volatility, g the
    anomalies' gain and e standard normal (common factor and own noise). The log price at a block's start is
    the sum of all earlier blocks' returns: summed once, then remembered.
    """

    def __init__(self, spec: SymbolSpec, seed: int, climate: Climate) -> None:
        self.spec = spec
        self._climate = climate
        self._state_noise = NoiseStream(seed, spec.symbol, "state")
        self._shock_noise = NoiseStream(seed, spec.symbol, "shock")
        self._bar_noise = NoiseStream(seed, spec.symbol, "bar")
        self._anomaly_noise = NoiseStream(seed, spec.symbol, "anomaly")
        self.first_block = block_of(spec.listed_time)
        self._levels = [math.log(spec.first_price)]
        self._last_normals: tuple[int, NDArray[np.float32]] | None = None

    def known_blocks(self) -> int:
        """Return how many blocks from the first have a known starting price."""
        return len(self._levels)

    def level(self, block: int) -> float:
        """Return the log price at the start of a block, summing earlier blocks where that is still to do."""
        while len(self._levels) <= block - self.first_block:
            self.extend()
        return self._levels[block - self.first_block]

    def extend(self) -> None:
        """Sum one more block of returns."""
        block = self.first_block + len(self._levels) - 1
        self._levels.append(self._levels[-1] + float(np.cumsum(self.state(block).log_return)[-1]))

    def state(self, block: int) -> StateBlock:
        """Compute the latent state and the returns of one block."""
        climate = self._climate.block(block)
        before, here = self._normals(block - 1), self._normals(block)
        z = SIGNAL(np.concatenate((before[0, -SIGNAL.memory :], here[0])))[SIGNAL.memory - 1 :]
        nerves = _NERVES(np.concatenate((before[1, -_NERVES.memory :], here[1])))[_NERVES.memory :]
        volatility = np.exp(
            climate.log_volatility + _NERVES_SD * nerves.astype(np.float64) + math.log(self.spec.sigma)
        )
        anomalies = draw_anomalies(self._anomaly_noise, block, climate.trading)
        disturbance = disturb(anomalies)
        own = self._shock_noise.generator(block).standard_normal(BLOCK_MINUTES, dtype=np.float32)
        share = self.spec.market_share
        shock = share * climate.shock.astype(np.float64) + math.sqrt(1 - share * share) * own
        for anomaly in anomalies:
            if anomaly.kind == "jump":  # at least one whole magnitude, in the direction that chance gave it
                shock[anomaly.first] = anomaly.sign * (1.0 + abs(shock[anomaly.first]))
        noise_volatility = volatility * disturbance.shock_gain
        signal = z.astype(np.float64)
        log_return = KAPPA * volatility * signal[:-1] + noise_volatility * shock
        return StateBlock(signal, volatility, noise_volatility, log_return, anomalies, disturbance)

    def bars(self, block: int) -> NDArray[np.int64]:
        """Generate the minutes of a block, shape (BLOCK_MINUTES, BAR_COLUMNS), outages still included."""
        start_level = self.level(block)
        state = self.state(block)
        random = self._bar_noise.generator(block)
        path = start_level + np.concatenate(((0.0,), np.cumsum(state.log_return)))
        ticks_per_unit = 10.0**self.spec.tick_decimals
        up, down = _excursions(state, random)
        edges = np.maximum(np.rint(np.exp(path) * ticks_per_unit), 1.0).astype(np.int64)
        opened, closed = edges[:-1], edges[1:]
        high = np.rint(np.exp(path[:-1] + up) * ticks_per_unit).astype(np.int64)
        low = np.rint(np.exp(path[:-1] - down) * ticks_per_unit).astype(np.int64)
        bars = np.empty((BLOCK_MINUTES, BAR_COLUMNS), dtype=np.int64)
        volume, trades = self._activity(state, path, random)
        if self.spec.thin:
            opened, closed = _skip_trades(opened, closed, volume, random)
        bars[:, OPEN], bars[:, CLOSE] = opened, closed
        bars[:, HIGH] = np.maximum(high, np.maximum(opened, closed))
        bars[:, LOW] = np.maximum(np.minimum(low, np.minimum(opened, closed)), 1)
        silent = volume == 0
        bars[silent, HIGH] = bars[silent, LOW] = opened[silent]
        share = 1.0 / (1.0 + np.exp(-TAKER_SLOPE * state.signal[1:]))
        mean_price = bars[:, : CLOSE + 1].sum(axis=1) // 4
        bars[:, VOLUME] = volume
        bars[:, QUOTE] = volume * mean_price
        bars[:, TRADES] = np.minimum(trades, volume)
        bars[:, TAKER_BASE] = np.rint(volume * share).astype(np.int64)
        bars[:, TAKER_QUOTE] = bars[:, TAKER_BASE] * mean_price
        return bars

    def _activity(
        self, state: StateBlock, path: NDArray[np.float64], random: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return volume in lots and trade counts: more of both when volatile, never aware of direction."""
        spec = self.spec
        spread = random.standard_normal((2, BLOCK_MINUTES), dtype=np.float32).astype(np.float64)
        relative = np.log(state.volatility / spec.sigma)
        size = np.abs(state.log_return) / state.volatility
        value = spec.minute_value * state.disturbance.volume_gain
        value = value * np.exp(0.9 * relative + 0.25 * np.minimum(size, 6.0) - 0.2 + 0.45 * spread[0])
        volume = np.rint(value / np.exp(path[1:]) * 10.0**spec.step_decimals).astype(np.int64) + 1
        trades = np.rint(value / spec.trade_value * np.exp(0.15 * spread[1])).astype(np.int64) + 1
        return volume, trades

    def _normals(self, block: int) -> NDArray[np.float32]:
        kept = self._last_normals
        if kept is not None and kept[0] == block:
            return kept[1]
        drawn = self._state_noise.generator(block).standard_normal((2, BLOCK_MINUTES), dtype=np.float32)
        self._last_normals = (block, drawn)
        return drawn


def _excursions(
    state: StateBlock, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw how far above and below its open each minute goes (log price).

    The maximum of a Brownian bridge from 0 to r with variance s^2 is (r + sqrt(r^2 + 2 s^2 E)) / 2, E a
    standard exponential; the minimum likewise, drawn independently.
    """
    r = state.log_return
    exponential = random.standard_exponential((2, BLOCK_MINUTES), dtype=np.float32).astype(np.float64)
    spread = 2.0 * state.volatility**2
    up = 0.5 * (r + np.sqrt(r * r + spread * exponential[0])) + state.volatility * state.disturbance.wick_up
    down = (
        0.5 * (-r + np.sqrt(r * r + spread * exponential[1])) + state.volatility * state.disturbance.wick_down
    )
    return up, down


def _skip_trades(
    opened: NDArray[np.int64],
    closed: NDArray[np.int64],
    volume: NDArray[np.int64],
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take the trades out of some minutes: zero volume, and the previous close for all four prices.

    The first and the last minute of a block always trade, so that nothing is carried from block to block.
    """
    silent = random.random(BLOCK_MINUTES) < _NO_TRADE_SHARE
    silent[0] = silent[-1] = False
    volume[silent] = 0
    last_trade = np.maximum.accumulate(np.where(silent, 0, np.arange(BLOCK_MINUTES)))
    carried = closed[last_trade]
    return np.concatenate((opened[:1], carried[:-1])), carried
