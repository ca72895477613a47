"""Shape and memory of the distribution of returns."""

from __future__ import annotations

from kernels.formulas.price import log_return
from kernels.registry import feature
from kernels.rolling import rolling_moments
from kernels.series import Bar, Series, ratio, sqrt


@feature(
    "skew_{n}",
    text="sqrt(n) M3 / M2^1.5 of the last n log returns, Mk = sum of (r - mean r)^k; 0 in a flat market",
    source="Fisher's g1",
    scale_free=True,
    instances=((30,),),
)
def skew(bar: Bar, n: int) -> Series:
    """Rolling skewness of log returns."""
    moments = rolling_moments(log_return(bar, 1), n, 4)
    assert moments.m3 is not None
    return ratio(moments.m3 * float(n) ** 0.5, moments.m2 * sqrt(moments.m2))


@feature(
    "kurtosis_{n}",
    text="n M4 / M2^2 - 3 of the last n log returns; 0 in a flat market",
    source="Fisher's g2 (excess)",
    value_range=(-2.0, None),
    scale_free=True,
    instances=((30,),),
)
def kurtosis(bar: Bar, n: int) -> Series:
    """Rolling excess kurtosis of log returns."""
    moments = rolling_moments(log_return(bar, 1), n, 4)
    assert moments.m4 is not None
    return ratio(moments.m4 * float(n), moments.m2 * moments.m2, 3.0) - 3.0


@feature(
    "variance_ratio_{n}_{k}",
    text="variance of k-bar log returns over k times that of one-bar returns, each over n bars; 1 where flat",
    source="Lo and MacKinlay 1988, overlapping, without bias correction",
    value_range=(0.0, None),
    scale_free=True,
    instances=((60, 4),),
)
def variance_ratio(bar: Bar, n: int, k: int) -> Series:
    """Above 1 where returns persist, below 1 where they revert."""
    long, short = (rolling_moments(log_return(bar, bars), n) for bars in (k, 1))
    return ratio(long.m2, short.m2 * float(k), 1.0)
