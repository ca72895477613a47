"""Times and numbers as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(time_ms: int | None) -> str:
    """Write ms since the epoch as a person reads it; None is "none"."""
    if time_ms is None:
        return "none"
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def count(number: int, thing: str, things: str | None = None) -> str:
    """Write a number of things, as in "1 bar" and "1,024 bars"; `things` where the plural is not made with an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
