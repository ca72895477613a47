"""Where in the day and in the week a bar opens (UTC), as points on a circle."""

from __future__ import annotations

from kernels.registry import feature
from kernels.series import Bar, Series, maximum, minimum

_FEATURE = {"source": "definition", "value_range": (-1.0, 1.0), "scale_free": True}


@feature("hour_sin", text="sin(2 pi h / 24), h = hours since midnight UTC", **_FEATURE)  # type: ignore[arg-type]
def hour_sin(bar: Bar) -> Series:
    """Sine of the time of day."""
    return bar.hour_sin * 1.0


@feature("hour_cos", text="cos(2 pi h / 24)", **_FEATURE)  # type: ignore[arg-type]
def hour_cos(bar: Bar) -> Series:
    """Cosine of the time of day."""
    return bar.hour_cos * 1.0


@feature(
    "hour_sin_{k}",
    text="sin(2 pi k h / 24)",
    instances=((2,), (3,), (4,)),
    **_FEATURE,  # type: ignore[arg-type]
)
def hour_sin_of_harmonic(bar: Bar, k: int) -> Series:
    """Sine of the time of a k-th of a day: activity has more than one peak a day."""
    return _harmonic(bar, k)[0]


@feature(
    "hour_cos_{k}",
    text="cos(2 pi k h / 24)",
    instances=((2,), (3,), (4,)),
    **_FEATURE,  # type: ignore[arg-type]
)
def hour_cos_of_harmonic(bar: Bar, k: int) -> Series:
    """Cosine of the time of a k-th of a day."""
    return _harmonic(bar, k)[1]


def _harmonic(bar: Bar, k: int) -> tuple[Series, Series]:
    """Sine and cosine of k times the angle of the hour, by de Moivre; rounding may not leave [-1, 1]."""
    sine, cosine = bar.hour_sin, bar.hour_cos
    for _ in range(k - 1):
        sine, cosine = (
            sine * bar.hour_cos + cosine * bar.hour_sin,
            cosine * bar.hour_cos - sine * bar.hour_sin,
        )
    return maximum(minimum(sine, 1.0), -1.0), maximum(minimum(cosine, 1.0), -1.0)


@feature("day_sin", text="sin(2 pi d / 7), d = whole days since Monday", **_FEATURE)  # type: ignore[arg-type]
def day_sin(bar: Bar) -> Series:
    """Sine of the day of the week."""
    return bar.day_sin * 1.0


@feature("day_cos", text="cos(2 pi d / 7)", **_FEATURE)  # type: ignore[arg-type]
def day_cos(bar: Bar) -> Series:
    """Cosine of the day of the week."""
    return bar.day_cos * 1.0
