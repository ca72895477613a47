"""Seeded panels of made-up bars: what parity checks, tests and benchmarks run on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_START_MS = 1_700_000_100_000


@dataclass(frozen=True)
class SamplePanel:
    """A panel as `kernels.panel.PanelLike` describes it."""

    open_time: NDArray[np.int64]
    symbols: tuple[str, ...]
    interval: str
    columns: dict[str, NDArray[np.float64]]


def sample_panel(
    bars: int,
    symbols: int,
    *,
    seed: int = 0,
    gaps: bool = False,
    scales: bool = False,
    interval_ms: int = 300_000,
) -> SamplePanel:
    """Heavy-tailed random walks with all columns of a kline.

    Parameters
    ----------
    bars, symbols
        Shape.
    seed
        Of the generator.
    gaps
        Leave out single bars and stretches, start some symbols late and end some early.
    scales
        Start prices between 1e-8 and 1e5 instead of at 100.
    interval_ms
        Between bars.
    """
    rng = np.random.default_rng(seed)
    shape = (bars, symbols)
    first = 10.0 ** rng.uniform(-8, 5, symbols) if scales else np.full(symbols, 100.0)
    close = first * np.exp(np.cumsum(rng.standard_t(4, shape) * 2e-3, axis=0))
    open_ = np.concatenate([close[:1], close[:-1]]) * (1 + rng.normal(0, 2e-4, shape))
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 1.2e-3, shape)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 1.2e-3, shape)))
    volume = rng.gamma(1.5, 1000.0, shape) / first
    quiet = rng.random(shape) < 0.002  # a bar without a trade
    close, open_ = np.where(quiet, open_, close), open_
    high, low = np.where(quiet, open_, high), np.where(quiet, open_, low)
    volume = np.where(quiet, 0.0, volume)
    trades = np.where(quiet, 0.0, rng.poisson(200.0, shape) + 1.0)
    taker = volume * rng.beta(8, 8, shape)
    columns = {
        "open": open_, "high": high, "low": low, "close": close, "volume": volume,
        "quote_volume": volume * close, "trades": trades,
        "taker_buy_base": taker, "taker_buy_quote": taker * close,
    }  # fmt: skip
    if gaps:
        _leave_out(columns, rng, bars, symbols)
    open_time = _START_MS // interval_ms * interval_ms + np.arange(bars, dtype=np.int64) * interval_ms
    names = tuple(f"SYM{i:04d}" for i in range(symbols))
    return SamplePanel(
        open_time, names, f"{interval_ms}ms", {k: np.ascontiguousarray(v) for k, v in columns.items()}
    )


def _leave_out(
    columns: dict[str, NDArray[np.float64]], rng: np.random.Generator, bars: int, symbols: int
) -> None:
    missing = rng.random((bars, symbols)) < 0.001
    for s in range(symbols):
        kind = s % 4
        if kind == 1:
            missing[: bars // 5 + s, s] = True
        elif kind == 2:
            missing[bars - bars // 6 - s :, s] = True
        elif kind == 3:
            missing[bars // 2 : bars // 2 + 5, s] = True
    for values in columns.values():
        values[missing] = np.nan
