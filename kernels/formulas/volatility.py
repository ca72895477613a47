"""How far prices move: ranges, deviations, bands and channels."""

from __future__ import annotations

import math

from kernels.formulas.momentum import typical_price
from kernels.formulas.price import log_return
from kernels.registry import feature
from kernels.rolling import highest, lowest, rolling_mean, rolling_moments, rolling_sum
from kernels.series import Bar, Series, log, maximum, ratio, shared, sqrt, where
from kernels.smoothing import ema, true_range, wilder


@shared
def average_true_range(bar: Bar, n: int) -> Series:
    """Wilder average of the true range."""
    return wilder(true_range(bar.high, bar.low, bar.close), n)


@feature(
    "atr_{n}", text="Wilder average of the true range", source="Wilder 1978; TA-Lib ATR", instances=((14,),)
)
def atr(bar: Bar, n: int) -> Series:
    """Average true range."""
    return average_true_range(bar, n)


@feature(
    "natr_{n}",
    text="100 ATR(n) / C",
    source="TA-Lib NATR",
    value_range=(0.0, None),
    scale_free=True,
    instances=((14,),),
)
def natr(bar: Bar, n: int) -> Series:
    """Average true range in percent of the close."""
    return average_true_range(bar, n) / bar.close * 100.0


@shared
def deviation(bar: Bar, n: int) -> Series:
    """Population standard deviation of the close."""
    return sqrt(rolling_moments(bar.close, n).variance)


@feature(
    "std_{n}",
    text="standard deviation of the last n closes (ddof 0)",
    source="TA-Lib STDDEV",
    value_range=(0.0, None),
    instances=((20,),),
)
def standard_deviation(bar: Bar, n: int) -> Series:
    """Rolling standard deviation."""
    return deviation(bar, n)


@feature(
    "bollinger_upper_{n}_{k}",
    text="SMA(C, n) + k STD(C, n)",
    source="Bollinger 2001; TA-Lib BBANDS",
    instances=((20, 2.0),),
)
def bollinger_upper(bar: Bar, n: int, k: float) -> Series:
    """Upper Bollinger band."""
    return rolling_mean(bar.close, n) + deviation(bar, n) * k


@feature(
    "bollinger_middle_{n}",
    text="SMA(C, n)",
    source="Bollinger 2001; TA-Lib BBANDS",
    instances=((20,),),
)
def bollinger_middle(bar: Bar, n: int) -> Series:
    """Middle of the Bollinger bands."""
    return rolling_mean(bar.close, n)


@feature(
    "bollinger_lower_{n}_{k}",
    text="SMA(C, n) - k STD(C, n)",
    source="Bollinger 2001; TA-Lib BBANDS",
    instances=((20, 2.0),),
)
def bollinger_lower(bar: Bar, n: int, k: float) -> Series:
    """Lower Bollinger band."""
    return rolling_mean(bar.close, n) - deviation(bar, n) * k


@feature(
    "bollinger_position_{n}_{k}",
    text="(C - SMA(C, n)) / (k STD(C, n)): -1 at the lower band, 1 at the upper; 0 in a flat market",
    source="Bollinger 2001 (%b, centred)",
    scale_free=True,
    instances=((20, 2.0),),
)
def bollinger_position(bar: Bar, n: int, k: float) -> Series:
    """Place of the close between the Bollinger bands."""
    moments = rolling_moments(bar.close, n)
    return ratio(-moments.offset, sqrt(moments.variance) * k)


@feature(
    "bollinger_width_{n}_{k}",
    text="2 k STD(C, n) / SMA(C, n)",
    source="Bollinger 2001 (BandWidth)",
    value_range=(0.0, None),
    scale_free=True,
    instances=((20, 2.0),),
)
def bollinger_width(bar: Bar, n: int, k: float) -> Series:
    """Width of the Bollinger bands relative to their middle."""
    return deviation(bar, n) * (2.0 * k) / rolling_mean(bar.close, n)


@feature(
    "keltner_upper_{n}_{atr}_{k}",
    text="EMA(P, n) + k ATR(atr), P = (H + L + C) / 3",
    source="Keltner 1960 in Raschke's form; TA-Lib KC",
    instances=((20, 10, 2.0),),
)
def keltner_upper(bar: Bar, n: int, atr: int, k: float) -> Series:
    """Upper Keltner channel."""
    return ema(typical_price(bar), n) + average_true_range(bar, atr) * k


@feature(
    "keltner_lower_{n}_{atr}_{k}",
    text="EMA(P, n) - k ATR(atr)",
    source="Keltner 1960 in Raschke's form; TA-Lib KC",
    instances=((20, 10, 2.0),),
)
def keltner_lower(bar: Bar, n: int, atr: int, k: float) -> Series:
    """Lower Keltner channel."""
    return ema(typical_price(bar), n) - average_true_range(bar, atr) * k


_FADED = 1e-12
"""Ranges below this share of the price: what is left there of an EMA's way to the price is rounding."""


@feature(
    "keltner_position_{n}_{atr}_{k}",
    text="(C - EMA(P, n)) / (k ATR(atr)); 0 where the ATR has faded to nothing",
    source="Keltner 1960 in Raschke's form; TA-Lib KC",
    scale_free=True,
    instances=((20, 10, 2.0),),
)
def keltner_position(bar: Bar, n: int, atr: int, k: float) -> Series:
    """Place of the close in the Keltner channel: -1 at its floor, 1 at its ceiling."""
    reach = average_true_range(bar, atr) * k
    return where(reach > bar.close * _FADED, (bar.close - ema(typical_price(bar), n)) / reach, 0.0)


@feature(
    "donchian_upper_{n}",
    text="highest high of n bars, this one included",
    source="Donchian 1960; TA-Lib DONCHIAN",
    instances=((20,),),
)
def donchian_upper(bar: Bar, n: int) -> Series:
    """Upper Donchian channel."""
    return highest(bar.high, n)


@feature(
    "donchian_lower_{n}",
    text="lowest low of n bars, this one included",
    source="Donchian 1960; TA-Lib DONCHIAN",
    instances=((20,),),
)
def donchian_lower(bar: Bar, n: int) -> Series:
    """Lower Donchian channel."""
    return lowest(bar.low, n)


@feature(
    "donchian_position_{n}",
    text="2 (C - L) / (H - L) - 1, H and L the channel of n bars; -1 where H = L",
    source="Donchian 1960",
    value_range=(-1.0, 1.0),
    scale_free=True,
    instances=((20,),),
)
def donchian_position(bar: Bar, n: int) -> Series:
    """Place of the close in the Donchian channel."""
    floor = lowest(bar.low, n)
    return ratio(bar.close - floor, highest(bar.high, n) - floor) * 2.0 - 1.0


@feature(
    "realised_vol_{n}",
    text="standard deviation (ddof 0) of the last n one-bar log returns",
    source="definition; per bar, not annualised",
    value_range=(0.0, None),
    scale_free=True,
    instances=((30,),),
)
def realised_volatility(bar: Bar, n: int) -> Series:
    """Realised volatility of one bar."""
    return sqrt(rolling_moments(log_return(bar, 1), n).variance)


@feature(
    "parkinson_vol_{n}",
    text="sqrt(mean of ln(H / L)^2 over n / (4 ln 2))",
    source="Parkinson 1980",
    value_range=(0.0, None),
    scale_free=True,
    instances=((30,),),
)
def parkinson_volatility(bar: Bar, n: int) -> Series:
    """Volatility of one bar from its range."""
    spread = log(bar.high / bar.low)
    return sqrt(rolling_sum(spread * spread, n) * (1.0 / (4.0 * math.log(2.0) * n)))


@feature(
    "garman_klass_vol_{n}",
    text="sqrt(mean over n of ln(H / L)^2 / 2 - (2 ln 2 - 1) ln(C / O)^2), at least 0",
    source="Garman and Klass 1980",
    value_range=(0.0, None),
    scale_free=True,
    instances=((30,),),
)
def garman_klass_volatility(bar: Bar, n: int) -> Series:
    """Volatility of one bar from open, high, low and close."""
    spread, body = log(bar.high / bar.low), log(bar.close / bar.open)
    estimate = spread * spread * 0.5 - body * body * (2.0 * math.log(2.0) - 1.0)
    return sqrt(maximum(rolling_mean(estimate, n), 0.0))


VOLATILITY_FLOOR = 1e-6
"""A hundredth of a basis point: what volatilities are raised to before a logarithm, where no price moved."""


@feature(
    "log_realised_vol_{n}",
    text="ln of realised_vol_{n}, this at least 1e-6",
    source="Corsi 2009 (HAR of logarithms)",
    value_range=(math.log(VOLATILITY_FLOOR), None),
    scale_free=True,
    instances=((30,),),
)
def log_realised_volatility(bar: Bar, n: int) -> Series:
    """Logarithm of the realised volatility of one bar."""
    return log(maximum(realised_volatility(bar, n), VOLATILITY_FLOOR))


@feature(
    "log_parkinson_vol_{n}",
    text="ln of parkinson_vol_{n}, this at least 1e-6",
    source="Parkinson 1980, Corsi 2009",
    value_range=(math.log(VOLATILITY_FLOOR), None),
    scale_free=True,
    instances=((1,), (6,), (50,)),
)
def log_parkinson_volatility(bar: Bar, n: int) -> Series:
    """Logarithm of the volatility of one bar from its range."""
    return log(maximum(parkinson_volatility(bar, n), VOLATILITY_FLOOR))
