"""What all simulated symbols share: the common factor, the volatility climate, regimes and outages."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from market.exchange.listing import GENESIS_MS
from market.exchange.noise import NoiseStream, TruncatedOU

MINUTE_MS: Final = 60_000
BLOCK_MINUTES: Final = 8 * 1440
BLOCK_MS: Final = BLOCK_MINUTES * MINUTE_MS

REGIMES: Final = (-0.45, 0.0, 0.5)  # calm, normal, turbulent: added to log volatility
REGIME_WEIGHTS: Final = (0.3, 0.45, 0.25)
REGIME_DAYS: Final = 3.0
CLIMATE_SD: Final = 0.3
OUTAGES_PER_BLOCK: Final = 0.8

_CLIMATE: Final = TruncatedOU(time_constant=720.0, doublings=12)
_CACHED_BLOCKS: Final = 512


@dataclass(frozen=True)
class ClimateBlock:
    """One block of what is common to all symbols; arrays of shape (BLOCK_MINUTES,).

    ``shock`` is the common factor's standard normal noise, ``log_volatility`` is added to every symbol's own,
    ``trading`` is False in the minutes of an exchange outage.
    """

    shock: NDArray[np.float32]
    log_volatility: NDArray[np.float64]
    trading: NDArray[np.bool_]


def block_of(time_ms: int) -> int:
    """Return the number of the block that contains a time."""
    return (time_ms - GENESIS_MS) // BLOCK_MS


def block_start(block: int) -> int:
    """Return the first open time of a block in ms."""
    return GENESIS_MS + block * BLOCK_MS


class Climate:
    """The common part of a simulated market, block by block."""

    def __init__(self, seed: int) -> None:
        self._noise = NoiseStream(seed, "market", "noise")
        self._regimes = NoiseStream(seed, "market", "regime")
        self._outages = NoiseStream(seed, "market", "outage")
        self._cache: OrderedDict[int, ClimateBlock] = OrderedDict()

    def block(self, block: int) -> ClimateBlock:
        """Return (or make) one block."""
        found = self._cache.get(block)
        if found is None:
            found = self._make(block)
            self._cache[block] = found
            if len(self._cache) > _CACHED_BLOCKS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(block)
        return found

    def outage_spans(self, block: int) -> list[tuple[int, int]]:
        """Return the outages of a block as (first minute, minutes), counted from the block's start."""
        random = self._outages.generator(block)
        spans = []
        for _ in range(int(random.poisson(OUTAGES_PER_BLOCK))):
            minutes = int(np.clip(np.exp(random.normal(2.3, 0.9)), 2, 60))
            spans.append((int(random.integers(0, BLOCK_MINUTES - 60)), minutes))
        return spans

    def _normals(self, block: int) -> NDArray[np.float32]:
        return self._noise.generator(block).standard_normal((2, BLOCK_MINUTES), dtype=np.float32)

    def _make(self, block: int) -> ClimateBlock:
        before, here = self._normals(block - 1), self._normals(block)
        slow = _CLIMATE(np.concatenate((before[1, -_CLIMATE.memory :], here[1])))[_CLIMATE.memory :]
        log_volatility = CLIMATE_SD * slow.astype(np.float64)
        log_volatility += self._regime(block)
        log_volatility += _season(block)
        trading = np.ones(BLOCK_MINUTES, dtype=np.bool_)
        for first, minutes in self.outage_spans(block):
            trading[first : first + minutes] = False
        return ClimateBlock(here[0], log_volatility, trading)

    def _regime(self, block: int) -> NDArray[np.float64]:
        """Return the regime's share of log volatility: cells of about three days with random borders."""
        first_day = block * BLOCK_MINUTES / 1440
        cells = np.arange(int(first_day // REGIME_DAYS) - 1, int((first_day + 8) // REGIME_DAYS) + 2)
        borders, levels = [], []
        for cell in cells:
            random = self._regimes.generator(int(cell))
            borders.append(cell * REGIME_DAYS + random.uniform(-0.3, 0.3) * REGIME_DAYS)
            levels.append(REGIMES[int(random.choice(len(REGIMES), p=REGIME_WEIGHTS))])
        days = first_day + np.arange(BLOCK_MINUTES) / 1440
        return np.asarray(levels)[np.searchsorted(borders, days, side="right") - 1]


def _season(block: int) -> NDArray[np.float64]:
    """Return the intraday and weekly season of log volatility (busiest about 15:00 UTC, quiet weekends)."""
    minute = block * BLOCK_MINUTES + np.arange(BLOCK_MINUTES)
    hour = (minute % 1440) / 60.0
    weekday = (minute // 1440) % 7  # the genesis is a Monday
    season = 0.25 * np.cos(2 * np.pi * (hour - 15.0) / 24.0) + 0.08 * np.cos(2 * np.pi * (hour - 1.0) / 8.0)
    return np.where(weekday >= 5, season - 0.2, season)
