"""A quiet market of a few symbols, with one-minute bars from a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from market.store import Panel

START = 1_735_689_600_000
MINUTE = 60_000


def quiet_market(bars: int = 4_000, symbols: int = 4, seed: int = 1) -> Panel:
    random = np.random.default_rng(seed)
    shape = (bars, symbols)
    volatility = 5e-4 * np.exp(0.3 * np.sin(np.arange(bars) / 300))[:, None]
    close = 50 * np.exp(np.cumsum(random.standard_t(4, shape) * volatility, axis=0))
    before = np.vstack([close[:1], close[:-1]])
    wick = np.abs(random.normal(0, 3e-4, (2, *shape)))
    volume = random.lognormal(2, 0.7, shape)
    columns = {
        "open": before,
        "high": np.maximum(close, before) * (1 + wick[0]),
        "low": np.minimum(close, before) * (1 - wick[1]),
        "close": close,
        "volume": volume,
        "trades": np.ceil(volume * 5),
        "taker_buy_base": volume * random.uniform(0.3, 0.7, shape),
    }
    times = START + MINUTE * np.arange(bars, dtype=np.int64)
    return Panel(times, tuple(f"Q{i}USDT" for i in range(symbols)), "1m", columns)


@pytest.fixture
def market() -> Panel:
    return quiet_market()


@pytest.fixture
def changed() -> Callable[..., Panel]:
    """A copy of a panel in which `change(columns)` was done."""

    def make(panel: Panel, change: Callable[[dict[str, np.ndarray]], None]) -> Panel:
        columns = {name: values.copy() for name, values in panel.columns.items()}
        change(columns)
        return dataclasses.replace(panel, columns=columns)

    return make
