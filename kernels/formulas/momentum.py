"""Oscillators: where the close stands in its recent range, and how fast it moves."""

from __future__ import annotations

from kernels.registry import feature
from kernels.rolling import highest, lowest, mean_deviation, rolling_mean, rolling_sum
from kernels.series import Bar, Series, maximum, minimum, previous, ratio, shared, where
from kernels.smoothing import ema, true_range, wilder

_ROUNDING = 4e-15
"""Typical prices that differ by less than this share are equal but for rounding: no exchange has so fine a tick."""

_RSI_ROUNDING = 1e-9
"""Values of an RSI that lie closer together are equal but for rounding: any move of a price takes it further."""


@shared
def rsi(bar: Bar, n: int) -> Series:
    """Relative strength index."""
    change = bar.close - previous(bar.close)
    gain = maximum(change, 0.0)
    rise, fall = wilder(gain, n), wilder(gain - change, n)
    return ratio(rise, rise + fall) * 100.0


feature(
    "rsi_{n}",
    text="100 U / (U + D), U and D Wilder averages of gains and losses; 0 where both are 0",
    source="Wilder 1978; TA-Lib RSI",
    value_range=(0.0, 100.0),
    scale_free=True,
    instances=((14,), (7,)),
)(rsi)


@feature(
    "stoch_rsi_{n}_{window}",
    text="100 (R - min R) / (max R - min R), R = RSI(n), extremes over window; 0 where R stands still",
    source="Chande and Kroll 1994; TA-Lib STOCHRSI (fast K)",
    value_range=(0.0, 100.0),
    scale_free=True,
    instances=((14, 14),),
)
def stochastic_rsi(bar: Bar, n: int, window: int) -> Series:
    """Stochastic of the RSI."""
    strength = rsi(bar, n)
    bottom = lowest(strength, window)
    span = highest(strength, window) - bottom
    return where(span > _RSI_ROUNDING, (strength - bottom) / span, 0.0) * 100.0


@shared
def fast_stochastic(bar: Bar, n: int) -> Series:
    """Place of the close between the lowest low and the highest high, 0 to 100."""
    bottom = lowest(bar.low, n)
    return ratio(bar.close - bottom, highest(bar.high, n) - bottom) * 100.0


@feature(
    "stoch_k_{n}_{smooth}",
    text="SMA(100 (C - L) / (H - L), smooth), L and H lowest low and highest high of n bars",
    source="Lane 1984; TA-Lib STOCH (slow K)",
    value_range=(0.0, 100.0),
    scale_free=True,
    instances=((14, 3),),
)
def stochastic_k(bar: Bar, n: int, smooth: int) -> Series:
    """Slow stochastic, %K."""
    return rolling_mean(fast_stochastic(bar, n), smooth)


@feature(
    "stoch_d_{n}_{smooth}_{signal}",
    text="SMA(stoch_k_{n}_{smooth}, signal)",
    source="Lane 1984; TA-Lib STOCH (slow D)",
    value_range=(0.0, 100.0),
    scale_free=True,
    instances=((14, 3, 3),),
)
def stochastic_d(bar: Bar, n: int, smooth: int, signal: int) -> Series:
    """Slow stochastic, %D."""
    return rolling_mean(stochastic_k(bar, n, smooth), signal)


@feature(
    "williams_r_{n}",
    text="-100 (H - C) / (H - L), H and L over n bars; 0 where H = L",
    source="Williams 1979; TA-Lib WILLR",
    value_range=(-100.0, 0.0),
    scale_free=True,
    instances=((14,),),
)
def williams_r(bar: Bar, n: int) -> Series:
    """Williams %R."""
    bottom = lowest(bar.low, n)
    return where(highest(bar.high, n) > bottom, fast_stochastic(bar, n) - 100.0, 0.0)


@feature(
    "cci_{n}",
    text="(P - mean P) / (0.015 mean |P - mean P|), P = (H + L + C) / 3, over n bars; 0 in a flat market",
    source="Lambert 1980; TA-Lib CCI",
    scale_free=True,
    instances=((20,),),
)
def commodity_channel_index(bar: Bar, n: int) -> Series:
    """Commodity channel index."""
    price = typical_price(bar)
    mean, deviation = mean_deviation(price, n)
    moved = deviation > mean * _ROUNDING
    return where(moved, (price - mean) / (deviation * 0.015), 0.0)


@shared
def typical_price(bar: Bar) -> Series:
    """Mean of high, low and close."""
    return (bar.high + bar.low + bar.close) * (1.0 / 3.0)


@shared
def macd_line(bar: Bar, fast: int, slow: int) -> Series:
    """Fast EMA less slow EMA, each seeded by itself."""
    return ema(bar.close, fast) - ema(bar.close, slow)


@feature(
    "macd_{fast}_{slow}",
    text="EMA(C, fast) - EMA(C, slow)",
    source="Appel 1979; TA-Lib MACD, whose fast EMA starts later",
    instances=((12, 26),),
)
def macd(bar: Bar, fast: int, slow: int) -> Series:
    """MACD line."""
    return macd_line(bar, fast, slow)


@feature(
    "macd_signal_{fast}_{slow}_{signal}",
    text="EMA(MACD(fast, slow), signal)",
    source="Appel 1979; TA-Lib MACD",
    instances=((12, 26, 9),),
)
def macd_signal(bar: Bar, fast: int, slow: int, signal: int) -> Series:
    """MACD's signal line."""
    return ema(macd_line(bar, fast, slow), signal)


@feature(
    "macd_hist_{fast}_{slow}_{signal}",
    text="MACD - signal line",
    source="Appel 1979; TA-Lib MACD",
    instances=((12, 26, 9),),
)
def macd_histogram(bar: Bar, fast: int, slow: int, signal: int) -> Series:
    """MACD histogram."""
    return macd_line(bar, fast, slow) - macd_signal(bar, fast, slow, signal)


@shared
def ppo_line(bar: Bar, fast: int, slow: int) -> Series:
    """MACD in percent of the slow EMA."""
    average = ema(bar.close, slow)
    return (ema(bar.close, fast) - average) / average * 100.0


@feature(
    "ppo_{fast}_{slow}",
    text="100 (EMA(C, fast) / EMA(C, slow) - 1)",
    source="TA-Lib PPO with exponential averages",
    value_range=(-100.0, None),
    scale_free=True,
    instances=((12, 26),),
)
def percentage_price_oscillator(bar: Bar, fast: int, slow: int) -> Series:
    """Percentage price oscillator: the MACD line without a unit."""
    return ppo_line(bar, fast, slow)


@feature(
    "ppo_hist_{fast}_{slow}_{signal}",
    text="PPO - EMA(PPO, signal)",
    source="definition, as the MACD histogram",
    scale_free=True,
    instances=((12, 26, 9),),
)
def ppo_histogram(bar: Bar, fast: int, slow: int, signal: int) -> Series:
    """Percentage price oscillator less its signal line."""
    line = ppo_line(bar, fast, slow)
    return line - ema(line, signal)


@feature(
    "trix_{n}",
    text="100 (E / E[1] - 1), E the EMA(n) of the EMA(n) of the EMA(n) of C",
    source="Hutson 1983; TA-Lib TRIX",
    scale_free=True,
    instances=((15,),),
)
def trix(bar: Bar, n: int) -> Series:
    """Rate of change of the triple-smoothed close."""
    smooth = ema(ema(ema(bar.close, n), n), n)
    return (smooth / previous(smooth) - 1.0) * 100.0


@feature(
    "ultosc_{short}_{medium}_{long}",
    text="100 (4 A(short) + 2 A(medium) + A(long)) / 7, A(n) = sum of C - min(L, C[1]) over sum of true range",
    source="Williams 1985; TA-Lib ULTOSC",
    value_range=(0.0, 100.0),
    scale_free=True,
    instances=((7, 14, 28),),
)
def ultimate_oscillator(bar: Bar, short: int, medium: int, long: int) -> Series:
    """Ultimate oscillator: buying pressure over three windows."""
    pressure = bar.close - minimum(bar.low, previous(bar.close))
    span = true_range(bar.high, bar.low, bar.close)
    a, b, c = (ratio(rolling_sum(pressure, n), rolling_sum(span, n)) for n in (short, medium, long))
    return (a * 4.0 + b * 2.0 + c) * (100.0 / 7.0)


@feature(
    "mfi_{n}",
    text="100 U / (U + D), U and D sums over n of P V where P = (H + L + C) / 3 rose and fell",
    source="Quong and Soudack 1989; TA-Lib MFI",
    value_range=(0.0, 100.0),
    scale_free=True,
    instances=((14,),),
)
def money_flow_index(bar: Bar, n: int) -> Series:
    """Money flow index."""
    price = typical_price(bar)
    change, least = price - previous(price), price * _ROUNDING
    flow = price * bar.volume
    inflow = rolling_sum(where(change > least, flow, 0.0), n)
    outflow = rolling_sum(where(-change > least, flow, 0.0), n)
    return ratio(inflow, inflow + outflow) * 100.0
