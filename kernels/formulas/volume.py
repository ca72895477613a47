"""What volume, takers and trades say."""

from __future__ import annotations

from kernels.formulas.momentum import typical_price
from kernels.registry import feature
from kernels.rolling import rolling_mean, rolling_sum
from kernels.series import Bar, Series, previous, ratio, shared, where
from kernels.smoothing import cumulative, ema


@feature(
    "obv",
    text="sum of V signed by C - C[1], from the second bar on",
    source="Granville 1963; TA-Lib OBV, which starts with the first bar's volume",
)
def on_balance_volume(bar: Bar) -> Series:
    """On-balance volume."""
    before = previous(bar.close)
    return cumulative(where(bar.close > before, bar.volume, where(bar.close < before, -bar.volume, 0.0)))


@shared
def money_flow_volume(bar: Bar) -> Series:
    """Volume weighted by the place of the close in the bar's range, -1 at the low and 1 at the high."""
    place = (bar.close - bar.low) - (bar.high - bar.close)
    return ratio(place, bar.high - bar.low) * bar.volume


@shared
def accumulation(bar: Bar) -> Series:
    """Accumulation/distribution line."""
    return cumulative(money_flow_volume(bar))


@feature("ad", text="sum of V ((C - L) - (H - C)) / (H - L)", source="Chaikin; TA-Lib AD")
def accumulation_distribution(bar: Bar) -> Series:
    """Accumulation/distribution line."""
    return accumulation(bar)


@feature(
    "adosc_{fast}_{slow}",
    text="EMA(AD, fast) - EMA(AD, slow), each seeded with the first value",
    source="Chaikin; TA-Lib ADOSC",
    instances=((3, 10),),
)
def chaikin_oscillator(bar: Bar, fast: int, slow: int) -> Series:
    """Chaikin oscillator."""
    line = accumulation(bar)
    return ema(line, fast, seed=1) - ema(line, slow, seed=1)


@feature(
    "cmf_{n}",
    text="sum of V ((C - L) - (H - C)) / (H - L) over the sum of V, over n bars",
    source="Chaikin; TA-Lib CMF",
    value_range=(-1.0, 1.0),
    scale_free=True,
    instances=((20,),),
)
def chaikin_money_flow(bar: Bar, n: int) -> Series:
    """Chaikin money flow."""
    return ratio(rolling_sum(money_flow_volume(bar), n), rolling_sum(bar.volume, n))


@shared
def volume_weighted_price(bar: Bar, n: int) -> Series:
    """Typical price weighted by volume; the plain price where nothing was traded."""
    price = typical_price(bar)
    return ratio(rolling_sum(price * bar.volume, n), rolling_sum(bar.volume, n), price)


@feature(
    "vwap_{n}",
    text="sum of P V over the sum of V, over n bars, P = (H + L + C) / 3",
    source="definition (rolling)",
    instances=((20,),),
)
def vwap(bar: Bar, n: int) -> Series:
    """Rolling volume-weighted average price."""
    return volume_weighted_price(bar, n)


@feature(
    "vwap_distance_{n}",
    text="C / VWAP(n) - 1",
    source="definition",
    value_range=(-1.0, None),
    scale_free=True,
    instances=((20,),),
)
def vwap_distance(bar: Bar, n: int) -> Series:
    """Distance of the close to the rolling VWAP."""
    return bar.close / volume_weighted_price(bar, n) - 1.0


@feature(
    "volume_ratio_{n}",
    text="V / SMA(V, n); 0 where nothing was traded",
    source="definition (relative volume)",
    value_range=(0.0, None),
    scale_free=True,
    instances=((20,),),
)
def volume_ratio(bar: Bar, n: int) -> Series:
    """Volume relative to its recent mean; at most n."""
    return ratio(bar.volume, rolling_mean(bar.volume, n))


@feature(
    "taker_imbalance",
    text="(2 B - V) / V, B = taker buy volume; 0 where V = 0",
    source="definition (order-flow imbalance)",
    value_range=(-1.0, 1.0),
    scale_free=True,
)
def taker_imbalance(bar: Bar) -> Series:
    """Taker buys less taker sells, as a share of the volume."""
    return ratio(bar.taker_buy_base * 2.0 - bar.volume, bar.volume)


@feature(
    "average_trade_size",
    text="V / number of trades; 0 without a trade",
    source="definition",
    value_range=(0.0, None),
)
def average_trade_size(bar: Bar) -> Series:
    """Mean base volume of a trade."""
    return ratio(bar.volume, bar.trades)


@feature(
    "trade_size_ratio_{n}",
    text="average trade size over that of the last n bars; 0 without a trade",
    source="definition",
    value_range=(0.0, None),
    scale_free=True,
    instances=((20,),),
)
def trade_size_ratio(bar: Bar, n: int) -> Series:
    """Size of this bar's trades relative to the recent mean."""
    usual = ratio(rolling_sum(bar.volume, n), rolling_sum(bar.trades, n))
    return ratio(ratio(bar.volume, bar.trades), usual)
