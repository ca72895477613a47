"""What ccxt raises, as our errors: what is wrong, where, and what to do."""

from __future__ import annotations

import re
from typing import Any, Final

import aiohttp

from market import client_errors as errors

_STATUS: Final = re.compile(r"\s(?P<status>[1-5]\d\d)\s")
_LONGEST: Final = 300


def worth_another_try(error: Exception) -> bool:
    """Tell whether the same request may succeed a little later."""
    import ccxt

    if isinstance(error, Unreadable):
        return True
    return isinstance(error, ccxt.OperationFailed) and _status(error) not in (403, 404, 451)


def says_too_many(error: Exception) -> bool:
    """Tell whether the exchange has asked for fewer requests."""
    import ccxt

    return isinstance(error, ccxt.DDoSProtection)


class Unreadable(Exception):  # noqa: N818 - a signal within this package, not an error
    """An answer arrived that ccxt has not made a list of bars of."""


def explained(error: Exception, source: str, what: str, attempts: int) -> errors.ExchangeError:
    """Return our error for one of ccxt's.

    Parameters
    ----------
    source : str
        Which exchange, e.g. ``ccxt:kraken``.
    what : str
        What was asked for, e.g. ``fetch_ohlcv BTC/USDT 1m``.
    attempts : int
        How often.
    """
    import ccxt

    said, where = _said(error), f"{source} {what}"
    status = _status(error)
    if status == 451 or "restricted location" in said:
        return errors.RegionBlockedError(
            f"the exchange does not serve the country the request comes from: {said}",
            where=where,
            remedy="choose an exchange that may serve you",
        )
    if status == 403:
        return errors.FirewallError(
            f"the exchange's firewall turned the request away: {said}",
            where=where,
            remedy="wait some minutes and send less at a time; check a proxy on the way, if there is one",
        )
    if says_too_many(error):
        return errors.RateLimitedError(
            f"still too many requests after {attempts} attempts: {said}",
            where=where,
            remedy="see what else uses up the limit of this address, and run again later",
        )
    if isinstance(error.__cause__, aiohttp.ClientConnectorError):
        return errors.UnreachableError(
            f"cannot reach the exchange after {attempts} attempts: {said}",
            where=where,
            remedy="check the network, and a proxy on the way",
        )
    if worth_another_try(error):
        return errors.RetriesExhaustedError(
            f"no usable answer after {attempts} attempts: {said}",
            where=where,
            remedy="run again later: what is missing is asked for again, what is stored stays",
        )
    if isinstance(error, ccxt.BadSymbol):
        return errors.UnknownSymbolError(
            f"the exchange refused the symbol: {said}", where=where, remedy="see the symbols it lists"
        )
    if isinstance(error, ccxt.NotSupported):
        return errors.RequestRefusedError(
            f"ccxt cannot ask this exchange for that: {said}", where=where, remedy="choose another exchange"
        )
    if isinstance(error, ccxt.AuthenticationError):
        return errors.RequestRefusedError(
            f"the exchange gives this to account holders alone: {said}",
            where=where,
            remedy="choose an exchange whose market data is open: klinecast uses no account",
        )
    return errors.RequestRefusedError(
        f"the exchange refused the request: {said}",
        where=where,
        remedy="check symbol, interval and times of the request",
    )


def retry_after_s(headers: Any) -> float | None:
    """Return the seconds that an answer's Retry-After asks for, None where it has none that can be read."""
    for name, value in (headers or {}).items():
        if str(name).lower() == "retry-after":
            try:
                return max(0.0, float(value))
            except ValueError:
                return None
    return None


def _status(error: Exception) -> int | None:
    """Return the HTTP status that ccxt put into the message, if it did ("<id> GET <url> 451 <reason> <body>")."""
    text = str(error)
    if " GET " not in text:
        return None
    found = _STATUS.search(text, text.index(" GET "))
    return int(found["status"]) if found else None


def _said(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
