"""Bars made in bulk: random walks on ticks with decimal volumes, as dense on disk as recorded ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.intervals import interval_ms
from market.klines import STORED_SCHEMA

START_MS: Final = 1_704_067_200_000  # 2024-01-01T00:00Z
DAY_MS: Final = 86_400_000
_VOLATILITY = 8e-4  # of a minute's log return
_SPREAD_OF_VOLUME = 1.1
_WAY_HOME = 0.3  # how much of the way back to where it began a price goes in one stretch


def names(count: int) -> list[str]:
    """Return so many symbols, in alphabetical order."""
    return [f"COIN{number:03d}USDT" for number in range(count)]


class BarMaker:
    """Makes one stretch of bars after another; prices go on where the last stretch ended.

    Parameters
    ----------
    symbols
        In alphabetical order.
    interval
        Of fixed length.
    start
        First open time, ms.
    """

    def __init__(self, symbols: Sequence[str], interval: str, start: int = START_MS, seed: int = 1) -> None:
        self.symbols, self.interval, self.start = list(symbols), interval, start
        self._random = np.random.default_rng(seed)
        number = np.arange(len(symbols))
        self._tick_decimals = 2 + number % 4
        self._lot_decimals = 5 - number % 4
        self._home = np.rint(10.0 ** (4.5 + self._tick_decimals / 2))  # in ticks: prices come back to it
        self._last = self._home
        self._lots = 10.0 ** (0.5 + self._lot_decimals * 0.9)
        self._trades = 90 * 10 ** (number % 4 / 2)

    def next(self, count: int) -> pl.DataFrame:
        """Return the next `count` bars of every symbol in `STORED_SCHEMA`, by symbol and open time."""
        length = interval_ms(self.interval)
        times = self.start + length * np.arange(count, dtype=np.int64)
        self.start += length * count
        ticks = self._ticks(count)
        amounts = self._amounts(count, ticks)
        open_time = np.tile(times, len(self.symbols))
        columns = {
            "symbol": pl.Series(self.symbols).gather(np.repeat(np.arange(len(self.symbols)), count)),
            "open_time": open_time,
            **{name: _flat(values, self._tick_decimals) for name, values in ticks.items()},
            "volume": _flat(amounts["volume"], self._lot_decimals),
            "close_time": open_time + (length - 1),
            "quote_volume": _flat(amounts["quote_volume"], self._tick_decimals + self._lot_decimals),
            "trades": amounts["trades"].ravel(),
            "taker_buy_base": _flat(amounts["taker_buy_base"], self._lot_decimals),
            "taker_buy_quote": _flat(amounts["taker_buy_quote"], self._tick_decimals + self._lot_decimals),
        }
        return pl.DataFrame(columns, schema=STORED_SCHEMA)

    def _ticks(self, count: int) -> dict[str, NDArray[np.int64]]:
        """Return open, high, low and close, (symbols, count), in ticks."""
        shape, scale = (len(self.symbols), count), _VOLATILITY * (interval_ms(self.interval) / 60_000) ** 0.5
        walk = np.cumsum(self._random.standard_normal(shape, np.float32) * np.float32(scale), axis=1)
        walk += np.log(self._home / self._last)[:, None] * np.linspace(0, _WAY_HOME, count)
        close = np.rint(self._last[:, None] * np.exp(walk)).astype(np.int64)
        opened = np.concatenate((self._last[:, None].astype(np.int64), close[:, :-1]), axis=1)
        self._last = close[:, -1].astype(float)
        reach = self._random.standard_exponential((2, *shape), np.float32) * np.float32(scale / 2)
        top, bottom = np.maximum(opened, close), np.minimum(opened, close)
        return {
            "open": opened,
            "high": top + (top * reach[0]).astype(np.int64),
            "low": bottom - np.minimum(bottom - 1, (bottom * reach[1]).astype(np.int64)),
            "close": close,
        }

    def _amounts(self, count: int, ticks: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        """Return volumes in lots and values in tick times lot; trades as they are."""
        shape = (len(self.symbols), count)
        size = np.exp(self._random.standard_normal(shape, np.float32) * np.float32(_SPREAD_OF_VOLUME))
        volume = np.rint(self._lots[:, None] * size).astype(np.int64)
        bought = np.clip(self._random.normal(0.5, 0.15, shape), 0, 1)
        taker = np.rint(volume * bought).astype(np.int64)
        price = (ticks["high"] + ticks["low"]) // 2
        return {
            "volume": volume,
            "quote_volume": volume * price,
            "trades": (size * self._trades[:, None]).astype(np.int64) + (volume > 0),
            "taker_buy_base": taker,
            "taker_buy_quote": taker * price,
        }


def _flat(values: NDArray[np.int64], decimals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the decimals that these integers stand for: a division rounds to the nearest float."""
    return (values / 10.0 ** decimals[:, None]).ravel()
