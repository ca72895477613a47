"""What can go wrong between `market.client` and an exchange, one class for each remedy."""

from __future__ import annotations

from typing import ClassVar

from market.errors import MarketError


class ExchangeError(MarketError):
    """A fault of one request to an exchange.

    Attributes
    ----------
    host_wide : bool
        True where every other request to this host would fail as well, so that going on is pointless.
    """

    host_wide: ClassVar[bool] = False


class UnreachableError(ExchangeError):
    """No connection to the host: name not found, refused, no route."""

    host_wide = True


class NotAnExchangeError(ExchangeError):
    """Something answered that does not speak the protocol: a login page, a proxy, another service."""

    host_wide = True


class RegionBlockedError(ExchangeError):
    """HTTP 451: the host does not serve this country."""

    host_wide = True


class FirewallError(ExchangeError):
    """HTTP 403: the exchange's firewall turned the request away."""

    host_wide = True


class RateLimitedError(ExchangeError):
    """HTTP 429 with a wait longer than the client was told to bear."""

    host_wide = True


class BannedError(ExchangeError):
    """HTTP 418: this address is banned for a time."""

    host_wide = True


class RetriesExhaustedError(ExchangeError):
    """5xx, time-outs, resets or truncated answers, as often as the client was told to try."""


class UnknownSymbolError(ExchangeError):
    """The exchange has no such symbol (-1121)."""


class UnknownIntervalError(ExchangeError):
    """The exchange has no such interval (-1120)."""


class RequestRefusedError(ExchangeError):
    """The exchange understood the request and refused it, for any other reason."""
