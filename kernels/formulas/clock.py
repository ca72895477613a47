"""Where in the day and in the week a bar opens (UTC), as points on a circle."""

from __future__ import annotations

from kernels.registry import feature
from kernels.series import Bar, Series

_FEATURE = {"source": "definition", "value_range": (-1.0, 1.0), "scale_free": True}


@feature("hour_sin", text="sin(2 pi h / 24), h = hours since midnight UTC", **_FEATURE)  # type: ignore[arg-type]
def hour_sin(bar: Bar) -> Series:
    """Sine of the time of day."""
    return bar.hour_sin * 1.0


@feature("hour_cos", text="cos(2 pi h / 24)", **_FEATURE)  # type: ignore[arg-type]
def hour_cos(bar: Bar) -> Series:
    """Cosine of the time of day."""
    return bar.hour_cos * 1.0


@feature("day_sin", text="sin(2 pi d / 7), d = whole days since Monday", **_FEATURE)  # type: ignore[arg-type]
def day_sin(bar: Bar) -> Series:
    """Sine of the day of the week."""
    return bar.day_sin * 1.0


@feature("day_cos", text="cos(2 pi d / 7)", **_FEATURE)  # type: ignore[arg-type]
def day_cos(bar: Bar) -> Series:
    """Cosine of the day of the week."""
    return bar.day_cos * 1.0
