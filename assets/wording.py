"""Times and numbers as a person reads them, for the command line too."""

from market.wording import count, utc

__all__ = ["count", "lasting", "utc"]


def lasting(milliseconds: int) -> str:
    """Write a span of time as a person says it: "3 min", "2 days"."""
    seconds = max(0, milliseconds) // 1_000
    for length, unit in ((86_400, "day"), (3_600, "hour"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length:,} {unit}{'' if unit == 'min' else 's'}"
    return f"{seconds} s"
