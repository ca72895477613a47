"""Times and numbers as a person reads them, for the command line too."""

from market.wording import count, utc

__all__ = ["count", "utc"]
