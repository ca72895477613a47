"""A small market with a planted signal, in the shape that the feature kernels give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from kernels.compute import FeatureBlock
from training.config import ForecasterConfig
from training.data.dataset import TrainingSet, build_training_set

INTERVAL = "5m"
INTERVAL_MS = 300_000
NAMES = ("taker_imbalance", "log_return_1", "realised_vol_30", "noise_1", "noise_2")


@dataclass(frozen=True)
class PlantedMarket:
    """Features, prices, and what nobody in the market knows: the true chance of a rise over the horizon."""

    block: FeatureBlock
    close: np.ndarray
    p_up: np.ndarray

    def changed_after(self, bar: int, seed: int = 99) -> PlantedMarket:
        """The same market up to and including `bar`, and another one after it."""
        rng = np.random.default_rng(seed)
        values, close = self.block.values.copy(), self.close.copy()
        values[:, bar + 1 :] += rng.normal(3, 5, values[:, bar + 1 :].shape).astype(np.float32) ** 2
        close[bar + 1 :] *= np.exp(rng.normal(0.1, 1, close[bar + 1 :].shape))
        return replace(self, block=replace(self.block, values=values), close=close)


def plant(
    T: int, S: int, *, strength: float, horizon: int = 3, persistence: float = 0.8, seed: int = 0
) -> PlantedMarket:
    """Each return is vol * (strength * z of the bar before + noise); `taker_imbalance` shows the AR(1) z."""
    rng = np.random.default_rng(seed)
    z = np.zeros((T, S))
    for t in range(1, T):
        z[t] = persistence * z[t - 1] + np.sqrt(1 - persistence**2) * rng.standard_normal(S)
    vol = 0.002 * np.exp(0.4 * np.sin(np.arange(T) / 200))[:, None]
    returns = np.zeros((T, S))
    returns[1:] = vol[1:] * (strength * z[:-1] + rng.standard_normal((T - 1, S)))
    squares = np.vstack([np.zeros((1, S)), np.cumsum(returns**2, axis=0)])
    realised = np.full((T, S), np.nan)
    realised[30:] = np.sqrt((squares[31:] - squares[1:-30]) / 30)
    noise = rng.standard_normal((2, T, S))
    seen = 0.25 * (z + 0.2 * rng.standard_normal((T, S)))
    values = np.stack([seen, returns, realised, *noise]).astype(np.float32)
    drift = strength * sum(persistence**k for k in range(horizon)) * z
    unknown = [sum(persistence**j for j in range(horizon - i)) for i in range(1, horizon)]
    spread = np.sqrt(horizon + strength**2 * (1 - persistence**2) * np.square(unknown).sum())
    times = np.arange(T, dtype=np.int64) * INTERVAL_MS
    block = FeatureBlock(values, NAMES, times, tuple(f"C{s}USDT" for s in range(S)))
    return PlantedMarket(block, 100 * np.exp(np.cumsum(returns, axis=0)), ndtr(drift / spread))


@pytest.fixture
def market() -> PlantedMarket:
    return plant(600, 3, strength=0.5)


@pytest.fixture
def tiny() -> ForecasterConfig:
    return ForecasterConfig(
        window=8, horizon=3, width=8, heads=2, blocks=1, lstm_units=8, ff=8, hidden=8, epochs=3, dropout=0.1,
        batch_size=64, learning_rate=5e-3, max_windows=600,
    )  # fmt: skip


@pytest.fixture
def built(market: PlantedMarket, tiny: ForecasterConfig, tmp_path: Path) -> TrainingSet:
    return build_training_set(market.block, market.close, INTERVAL, tiny, tmp_path / "set")


@pytest.fixture(scope="session")
def planted() -> Callable[..., PlantedMarket]:
    """The market's generator, for tests that need another size or strength."""
    return plant
