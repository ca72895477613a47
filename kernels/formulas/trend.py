"""Direction and strength of a trend."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.registry import feature
from kernels.rolling import bars_since_highest, bars_since_lowest
from kernels.series import (
    Bar,
    Seeding,
    Series,
    absolute,
    maximum,
    minimum,
    previous,
    ratio,
    recursive,
    shared,
    where,
)
from kernels.smoothing import true_range, wilder, wilder_sum


@dataclass(frozen=True)
class DirectionalMovement:
    """Wilder's fading sums of upward movement, downward movement and true range."""

    plus: Series
    minus: Series
    span: Series


@shared
def directional_movement(bar: Bar, n: int) -> DirectionalMovement:
    """Movement beyond the previous bar's high and low; only the larger of the two counts."""
    up = bar.high - previous(bar.high)
    down = previous(bar.low) - bar.low
    plus = where((up > down) & (up > 0.0), up, 0.0)
    minus = where((down > up) & (down > 0.0), down, 0.0)
    span = true_range(bar.high, bar.low, bar.close)
    return DirectionalMovement(wilder_sum(plus, n), wilder_sum(minus, n), wilder_sum(span, n))


@feature(
    "plus_di_{n}",
    text="100 S(+DM) / S(TR), S = Wilder's fading sum over n",
    source="Wilder 1978; TA-Lib PLUS_DI",
    value_range=(0.0, 100.0),
    scale_free=True,
    instances=((14,),),
)
def plus_directional(bar: Bar, n: int) -> Series:
    """Positive directional indicator."""
    movement = directional_movement(bar, n)
    return ratio(movement.plus, movement.span) * 100.0


@feature(
    "minus_di_{n}",
    text="100 S(-DM) / S(TR)",
    source="Wilder 1978; TA-Lib MINUS_DI",
    value_range=(0.0, 100.0),
    scale_free=True,
    instances=((14,),),
)
def minus_directional(bar: Bar, n: int) -> Series:
    """Negative directional indicator."""
    movement = directional_movement(bar, n)
    return ratio(movement.minus, movement.span) * 100.0


@feature(
    "adx_{n}",
    text="Wilder average over n of 100 |+DI - -DI| / (+DI + -DI)",
    source="Wilder 1978; TA-Lib ADX",
    value_range=(0.0, 100.0),
    scale_free=True,
    instances=((14,),),
)
def average_directional(bar: Bar, n: int) -> Series:
    """Average directional index: strength of a trend, either way."""
    movement = directional_movement(bar, n)
    spread = ratio(absolute(movement.plus - movement.minus), movement.plus + movement.minus) * 100.0
    return wilder(spread, n)


@feature(
    "aroon_up_{n}",
    text="100 (n - bars since the highest high of n + 1 bars) / n",
    source="Chande 1995; TA-Lib AROON",
    value_range=(0.0, 100.0),
    scale_free=True,
    instances=((14,),),
)
def aroon_up(bar: Bar, n: int) -> Series:
    """How fresh the highest high is."""
    return 100.0 - bars_since_highest(bar.high, n + 1) * (100.0 / n)


@feature(
    "aroon_down_{n}",
    text="100 (n - bars since the lowest low of n + 1 bars) / n",
    source="Chande 1995; TA-Lib AROON",
    value_range=(0.0, 100.0),
    scale_free=True,
    instances=((14,),),
)
def aroon_down(bar: Bar, n: int) -> Series:
    """How fresh the lowest low is."""
    return 100.0 - bars_since_lowest(bar.low, n + 1) * (100.0 / n)


@feature(
    "aroon_osc_{n}",
    text="aroon_up - aroon_down",
    source="Chande 1995; TA-Lib AROONOSC",
    value_range=(-100.0, 100.0),
    scale_free=True,
    instances=((14,),),
)
def aroon_oscillator(bar: Bar, n: int) -> Series:
    """Aroon oscillator."""
    ages = bars_since_lowest(bar.low, n + 1) - bars_since_highest(bar.high, n + 1)
    return ages * (100.0 / n)


@shared
def supertrend_state(bar: Bar, n: int, multiplier: float) -> tuple[Series, Series]:
    """Supertrend line and direction (+1 up, -1 down)."""
    before = previous(bar.close)
    middle = (bar.high + bar.low) * 0.5
    reach = wilder(true_range(bar.high, bar.low, bar.close), n) * multiplier
    top, bottom = middle + reach, middle - reach

    def step(_seeding: Seeding, old_top: Series, old_bottom: Series, old_way: Series) -> tuple[Series, ...]:
        ceiling = where((top < old_top) | (before > old_top), top, old_top)
        floor = where((bottom > old_bottom) | (before < old_bottom), bottom, old_bottom)
        way = where(bar.close > ceiling, 1.0, where(bar.close < floor, -1.0, old_way))
        return ceiling, floor, way

    ceiling, floor, way = recursive(step, start=(top, bottom, 1.0))
    return where(way > 0.0, floor, ceiling), way


@feature(
    "supertrend_{n}_{multiplier}",
    text="(H + L) / 2 -+ multiplier ATR(n), ratcheted towards the close until the close crosses it",
    source="Seban; TA-Lib SUPERTREND",
    instances=((10, 3.0),),
)
def supertrend(bar: Bar, n: int, multiplier: float) -> Series:
    """Supertrend line."""
    return supertrend_state(bar, n, multiplier)[0]


@feature(
    "supertrend_distance_{n}_{multiplier}",
    text="C / supertrend - 1: positive in an up-trend",
    source="definition",
    scale_free=True,
    instances=((10, 3.0),),
)
def supertrend_distance(bar: Bar, n: int, multiplier: float) -> Series:
    """Distance of the close to the Supertrend line."""
    return bar.close / supertrend_state(bar, n, multiplier)[0] - 1.0


@shared
def parabolic(bar: Bar, acceleration: float, limit: float) -> Series:
    """Wilder's parabolic stop and reverse."""
    high, low = bar.high, bar.low
    last_high, last_low = previous(high), previous(low)
    fall = last_low - low
    goes_down = (fall > 0.0) & (fall > high - last_high)

    def step(seeding: Seeding, stop: Series, peak: Series, gain: Series, long: Series) -> tuple[Series, ...]:
        up = long > 0.0
        near_high = maximum(high, seeding.until(1, high, last_high))
        near_low = minimum(low, seeding.until(1, low, last_low))
        crossed = where(up, low, -high) <= where(up, stop, -stop)
        turned = where(up, maximum(peak, near_high), minimum(peak, near_low))
        now_up = where(crossed, -long, long)
        rises = now_up > 0.0
        shown = where(crossed, turned, stop)
        reached = where(rises, maximum(high, peak), minimum(low, peak))
        advanced = where(rises, reached - peak, peak - reached) > 0.0
        faster = minimum(gain + acceleration, limit)
        new_gain = where(crossed, acceleration, where(advanced, faster, gain))
        new_peak = where(crossed, where(rises, high, low), reached)
        ahead = shown + new_gain * (new_peak - shown)
        new_stop = where(rises, minimum(ahead, near_low), maximum(ahead, near_high))
        return new_stop, new_peak, new_gain, now_up, shown

    start = (
        where(goes_down, last_high, last_low),
        where(goes_down, low, high),
        acceleration,
        where(goes_down, -1.0, 1.0),
        0.0,
    )
    return recursive(lambda s, stop, peak, gain, long, _shown: step(s, stop, peak, gain, long), start=start)[
        4
    ]


@feature(
    "sar_{acceleration}_{limit}",
    text="stop + a (extreme - stop), a from acceleration up to limit, reversed when crossed",
    source="Wilder 1978; TA-Lib SAR",
    instances=((0.02, 0.2),),
)
def sar(bar: Bar, acceleration: float, limit: float) -> Series:
    """Parabolic SAR."""
    return parabolic(bar, acceleration, limit)


@feature(
    "sar_distance_{acceleration}_{limit}",
    text="C / SAR - 1",
    source="definition",
    scale_free=True,
    instances=((0.02, 0.2),),
)
def sar_distance(bar: Bar, acceleration: float, limit: float) -> Series:
    """Distance of the close to the parabolic SAR."""
    return bar.close / parabolic(bar, acceleration, limit) - 1.0
