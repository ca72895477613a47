"""Changes of price and volume from one bar to a later one."""

from __future__ import annotations

from kernels.registry import feature
from kernels.series import Bar, Series, log, previous, ratio, shared


@shared
def log_return(bar: Bar, n: int = 1) -> Series:
    """Logarithm of close over the close n bars ago."""
    return log(bar.close / previous(bar.close, n))


feature(
    "log_return_{n}",
    text="ln(C / C[n])",
    source="definition",
    value_range=(None, None),
    scale_free=True,
    instances=((1,), (5,)),
)(log_return)


@feature(
    "price_change_{n}",
    text="C / C[n] - 1",
    source="definition",
    value_range=(-1.0, None),
    scale_free=True,
    instances=((1,),),
)
def price_change(bar: Bar, n: int) -> Series:
    """Relative change of the close."""
    return bar.close / previous(bar.close, n) - 1.0


@feature(
    "volume_change_{n}",
    text="V / V[n] - 1; 0 where V[n] = 0",
    source="definition",
    value_range=(-1.0, None),
    scale_free=True,
    instances=((1,),),
)
def volume_change(bar: Bar, n: int) -> Series:
    """Relative change of the volume."""
    return ratio(bar.volume, previous(bar.volume, n), 1.0) - 1.0


@feature("momentum_{n}", text="C - C[n]", source="TA-Lib MOM", instances=((10,),))
def momentum(bar: Bar, n: int) -> Series:
    """Difference of closes."""
    return bar.close - previous(bar.close, n)


@feature(
    "roc_{n}",
    text="100 (C / C[n] - 1)",
    source="TA-Lib ROC",
    value_range=(-100.0, None),
    scale_free=True,
    instances=((10,),),
)
def rate_of_change(bar: Bar, n: int) -> Series:
    """Rate of change in percent."""
    return (bar.close / previous(bar.close, n) - 1.0) * 100.0
