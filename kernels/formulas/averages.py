"""Moving averages of the close."""

from __future__ import annotations

from kernels.registry import feature
from kernels.rolling import rolling_mean, rolling_sum, weighted_mean
from kernels.series import Bar, Series, absolute, previous, recursive, where
from kernels.smoothing import ema


@feature("sma_{n}", text="mean of the last n closes", source="TA-Lib SMA", instances=((20,),))
def sma(bar: Bar, n: int) -> Series:
    """Simple moving average."""
    return rolling_mean(bar.close, n)


@feature(
    "ema_{n}",
    text="E + 2/(n+1) (C - E), seeded with the mean of the first n closes",
    source="TA-Lib EMA",
    instances=((20,),),
)
def exponential(bar: Bar, n: int) -> Series:
    """Exponential moving average."""
    return ema(bar.close, n)


@feature(
    "wma_{n}",
    text="(n C + (n-1) C[1] + ... + C[n-1]) / (n (n+1) / 2)",
    source="TA-Lib WMA",
    instances=((20,),),
)
def weighted(bar: Bar, n: int) -> Series:
    """Linearly weighted moving average."""
    return weighted_mean(bar.close, n)


@feature(
    "dema_{n}",
    text="2 E1 - E2, E1 = EMA(C, n), E2 = EMA(E1, n)",
    source="Mulloy 1994; TA-Lib DEMA",
    instances=((20,),),
)
def double_exponential(bar: Bar, n: int) -> Series:
    """Double exponential moving average."""
    first = ema(bar.close, n)
    return first * 2.0 - ema(first, n)


@feature(
    "tema_{n}",
    text="3 (E1 - E2) + E3, each the EMA(n) of the one before",
    source="Mulloy 1994; TA-Lib TEMA",
    instances=((20,),),
)
def triple_exponential(bar: Bar, n: int) -> Series:
    """Triple exponential moving average."""
    first = ema(bar.close, n)
    second = ema(first, n)
    return (first - second) * 3.0 + ema(second, n)


@feature(
    "kama_{n}",
    text="K + s^2 (C - K), s = e (2/3 - 2/31) + 2/31, e = |C - C[n]| / sum of |C - C[1]| over n",
    source="Kaufman 1995; TA-Lib KAMA",
    instances=((10,),),
)
def kaufman(bar: Bar, n: int) -> Series:
    """Kaufman's adaptive moving average: quick in a trend, slow in noise."""
    fast, slow = 2.0 / 3.0, 2.0 / 31.0
    before = previous(bar.close)
    travel = absolute(bar.close - previous(bar.close, n))
    path = rolling_sum(absolute(bar.close - before), n)
    efficiency = where(path > travel, travel / path, 1.0)
    smoothing = efficiency * (fast - slow) + slow
    (average,) = recursive(
        lambda _seeding, old: old + (bar.close - old) * (smoothing * smoothing), start=(before,)
    )
    return average


@feature(
    "ma_ratio_{fast}_{slow}",
    text="SMA(C, fast) / SMA(C, slow) - 1",
    source="definition",
    value_range=(-1.0, None),
    scale_free=True,
    instances=((10, 50),),
)
def average_ratio(bar: Bar, fast: int, slow: int) -> Series:
    """Distance between a fast and a slow moving average, relative to the slow one."""
    return rolling_mean(bar.close, fast) / rolling_mean(bar.close, slow) - 1.0
