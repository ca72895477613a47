"""What an answer other than the one asked for means: the exchange's error codes, and hosts that are no exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from market import client_errors as errors
from market.wire import NotJsonError, decode

_INVALID_SYMBOL, _INVALID_INTERVAL, _ILLEGAL_CHARACTERS = -1121, -1120, -1100


def refusal_of(status: int, headers: Mapping[str, str], body: bytes, where: str) -> errors.ExchangeError:
    """Return the error that an answer with neither bars nor hope of any means."""
    if status == 451:
        return errors.RegionBlockedError(
            "HTTP 451: this host does not serve the country the request comes from",
            where=where,
            remedy="set the exchange URL to a host that may serve you, e.g. the keyless market-data host",
        )
    if status == 403:
        return errors.FirewallError(
            "HTTP 403: the exchange's firewall turned the request away",
            where=where,
            remedy="wait some minutes and send less at a time; check a proxy on the way, if there is one",
        )
    said = _error_body(body)
    if said is None:
        return not_an_exchange(status, headers, body, where)
    code, message = said
    kind: type[errors.ExchangeError] = errors.RequestRefusedError
    remedy = "check symbol, interval and times of the request"
    if code == _INVALID_SYMBOL or (code == _ILLEGAL_CHARACTERS and "'symbol'" in message):
        kind, remedy = errors.UnknownSymbolError, "see the exchange's exchangeInfo for the symbols it has"
    elif code == _INVALID_INTERVAL:
        kind, remedy = errors.UnknownIntervalError, "use an interval of the protocol; case matters"
    return kind(f"the exchange refused the request: {message} (code {code})", where=where, remedy=remedy)


def not_an_exchange(
    status: int, headers: Mapping[str, str], body: bytes, where: str
) -> errors.NotAnExchangeError:
    """Return the error for an answer that is not of the protocol."""
    kind = headers.get("Content-Type", "of no stated type").split(";")[0]
    target = f", redirecting to {headers['Location']}" if "Location" in headers else ""
    return errors.NotAnExchangeError(
        f"HTTP {status}, {len(body)} bytes {kind}{target}: this is no exchange",
        where=where,
        remedy="check the exchange's URL (scheme, host and port only), and for a proxy or login page between",
    )


def _error_body(body: bytes) -> tuple[int, str] | None:
    try:
        value: Any = decode(body)
    except NotJsonError:
        return None
    if isinstance(value, dict) and isinstance(value.get("code"), int):
        return value["code"], str(value.get("msg", ""))
    return None


def message_of(body: bytes) -> str | None:
    """Return the message of an error body, None where there is none."""
    said = _error_body(body)
    return said[1] if said else None
