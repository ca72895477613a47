"""Bar times as the command line needs them."""

from __future__ import annotations

from market.intervals import floor_time, interval_ms


def close_of_next_bar(now_ms: int, interval: str) -> int:
    """Return when the bar that is open at `now_ms` closes, ms UTC."""
    return floor_time(now_ms, interval) + interval_ms(interval)
