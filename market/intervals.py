"""Kline intervals: their lengths, and the grid of open times that each one defines."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from market.errors import MarketError

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000

DAY_MS: Final = _DAY
"""Length of a day, ms: open times are UTC, which knows no longer or shorter ones here."""

INTERVAL_MS: Final[dict[str, int]] = {
    "1s": _SECOND,
    "1m": _MINUTE,
    "3m": 3 * _MINUTE,
    "5m": 5 * _MINUTE,
    "15m": 15 * _MINUTE,
    "30m": 30 * _MINUTE,
    "1h": _HOUR,
    "2h": 2 * _HOUR,
    "4h": 4 * _HOUR,
    "6h": 6 * _HOUR,
    "8h": 8 * _HOUR,
    "12h": 12 * _HOUR,
    "1d": _DAY,
    "3d": 3 * _DAY,
    "1w": 7 * _DAY,
}
"""Length of every interval of fixed length, in ms."""

MONTH: Final = "1M"
"""The calendar month: the protocol knows it, but it has no fixed length, so no bar of it is stored."""

PROTOCOL_INTERVALS: Final[tuple[str, ...]] = (*INTERVAL_MS, MONTH)
"""Every interval that the exchange protocol accepts; case matters (1m is a minute, 1M a month)."""

_OTHERWISE_WRITTEN: Final = re.compile(
    r"\s*(?:(?P<count>\d{1,6})?\s*(?P<unit>[A-Za-z]+)|(?P<before>[A-Za-z])(?P<after>\d{1,6}))\s*", re.ASCII
)
_UNIT_MS: Final = {
    **dict.fromkeys(("s", "sec", "second"), _SECOND),
    **dict.fromkeys(("m", "min", "minute", "t"), _MINUTE),
    **dict.fromkeys(("h", "hr", "hour"), _HOUR),
    **dict.fromkeys(("d", "day"), _DAY),
    **dict.fromkeys(("w", "wk", "week"), 7 * _DAY),
}

# 1970-01-01 was a Thursday; weeks open on Monday, so the week grid starts at 1970-01-05.
_GRID_ORIGIN_MS: Final = {"1w": 4 * _DAY}


def interval_ms(name: str) -> int:
    """Return the length of an interval in ms.

    Raises
    ------
    MarketError
        If the interval is unknown, or is the calendar month, which has no fixed length.
    """
    length = INTERVAL_MS.get(name)
    if length is None:
        what = f"interval {name!r} is " + (
            "a calendar month, without a fixed length" if name == MONTH else "unknown"
        )
        meant = meant_interval(name)
        hint = f"did you mean {meant}? " if meant else ""
        use = f"use one of {' '.join(INTERVAL_MS)} (case matters)"
        raise MarketError(what, where="interval", remedy=hint + use)
    return length


def meant_interval(text: str) -> str | None:
    """Return the interval that is meant by another spelling (1H, 60m, 1min, H4), None if that cannot be told."""
    found = _OTHERWISE_WRITTEN.fullmatch(text)
    if found is None or text == MONTH:
        return None
    count, unit = found["count"] or found["after"] or "1", found["unit"] or found["before"]
    length = int(count) * _UNIT_MS.get(unit.lower().removesuffix("s") or "s", 0)
    return next((name for name, own in INTERVAL_MS.items() if own == length), None)


def is_multiple(longer: str, interval: str) -> bool:
    """Whether a bar of the longer interval is a whole number, more than one, of bars of the other.

    It then closes together with one of them, since every grid of open times holds those of its multiples.
    """
    times, rest = divmod(interval_ms(longer), interval_ms(interval))
    return times > 1 and not rest


def floor_time(ms: int, interval: str) -> int:
    """Return the open time (ms) of the bar that `ms` falls into; 1w opens on Monday, 1M on the first, UTC."""
    if interval == MONTH:
        moment = dt.datetime.fromtimestamp(ms // 1_000, dt.UTC)
        first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return int(first.timestamp()) * 1_000
    origin = grid_origin(interval)
    return ms - (ms - origin) % interval_ms(interval)


def grid_origin(interval: str) -> int:
    """Return one open time (ms) of the grid; all others are whole intervals away."""
    return _GRID_ORIGIN_MS.get(interval, 0)


def open_times(start_ms: int, end_ms: int, interval: str) -> NDArray[np.int64]:
    """Return the open times in [start_ms, end_ms), ascending, int64 ms, shape (bars,)."""
    length = interval_ms(interval)
    return np.arange(ceil_time(start_ms, interval), end_ms, length, dtype=np.int64)


def ceil_time(ms: int, interval: str) -> int:
    """Return the first open time (ms) at or after `ms`."""
    floored = floor_time(ms, interval)
    return floored if floored == ms else floored + interval_ms(interval)
