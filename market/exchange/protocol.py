"""The exchange's rules about requests: parameters, their checks, weights, and the errors they bring."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from market.exchange.source import KlineQuery, Market
from market.intervals import PROTOCOL_INTERVALS

KLINES_WEIGHT: Final = 2
TIME_WEIGHT: Final = 1
EXCHANGE_INFO_WEIGHT: Final = 20
MAX_LIMIT: Final = 1000
DEFAULT_LIMIT: Final = 500


@dataclass(frozen=True)
class KlineRules:
    """What one market's klines route accepts.

    Attributes
    ----------
    parameters : tuple of str
        Those that it reads.
    max_limit : int
        Most rows of one answer.
    refuses_more : bool
        Whether a greater limit is an error; else it means `max_limit`.
    lacks : frozenset of str
        Intervals of the protocol that this market does not have.
    """

    parameters: tuple[str, ...]
    max_limit: int
    refuses_more: bool
    lacks: frozenset[str]


SPOT_KLINES: Final = KlineRules(
    ("symbol", "interval", "startTime", "endTime", "limit", "timeZone"), MAX_LIMIT, False, frozenset()
)
_SYMBOL_PATTERN: Final = "^[A-Z0-9-_.]{1,20}$"
_INTEGER_PATTERN: Final = "^[0-9]{1,20}$"
_SYMBOL: Final = re.compile(r"[A-Z0-9_.\-]{1,20}\Z")
_INTEGER: Final = re.compile(r"[0-9]{1,20}\Z")


class ApiError(Exception):
    """An error of the protocol: HTTP status, code and message."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    def body(self) -> bytes:
        """Return the JSON body."""
        return orjson.dumps({"code": self.code, "msg": self.message})


def invalid_symbol() -> ApiError:
    """Return error -1121."""
    return ApiError(-1121, "Invalid symbol.")


def missing(name: str) -> ApiError:
    """Return error -1102."""
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def illegal(name: str, pattern: str) -> ApiError:
    """Return error -1100."""
    return ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{pattern}'.")


def refuse_unread(given: Iterable[str], known: tuple[str, ...]) -> None:
    """Raise error -1104 where a parameter was sent that the route does not read."""
    names = list(given)
    read = sum(name in known for name in names)
    if read != len(names):
        message = (
            f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(names)}'."
        )
        raise ApiError(-1104, message)


def kline_query(
    given: Mapping[str, str],
    market: Market,
    now_ms: int,
    microseconds: bool,
    rules: KlineRules = SPOT_KLINES,
) -> KlineQuery:
    """Check the parameters of GET /api/v3/klines, or of another market's klines route by its `rules`.

    Raises
    ------
    ApiError
        With the code that the exchange gives: -1102 missing, -1100 illegal characters, -1120 interval,
        -1121 symbol, -1023 times in the wrong order, -1130 another value, -1104 unread parameters.
    """
    symbol = symbol_parameter(given, market, now_ms)
    interval = given.get("interval") or ""
    if not interval:
        raise missing("interval")
    if interval not in PROTOCOL_INTERVALS or interval in rules.lacks or not market.serves(interval):
        raise ApiError(-1120, "Invalid interval.")
    start = _integer(given, "startTime")
    end = _integer(given, "endTime")
    limit = _integer(given, "limit")
    if limit == 0 or (rules.refuses_more and limit is not None and limit > rules.max_limit):
        raise ApiError(-1130, "Data sent for parameter 'limit' is not valid.")
    if start is not None and end is not None and start > end:
        raise ApiError(-1023, "Start time is greater than end time.")
    refuse_unread(given, rules.parameters)
    if given.get("timeZone", "0") not in ("0", "00:00", "+00:00", "0:00"):
        raise ApiError(-1130, "Data sent for parameter 'timeZone' is not valid.")
    rows = min(DEFAULT_LIMIT if limit is None else limit, rules.max_limit)
    return KlineQuery(symbol, interval, start, end, rows, microseconds)


def symbol_parameter(given: Mapping[str, str], market: Market, now_ms: int) -> str:
    """Return the checked parameter ``symbol``."""
    symbol = given.get("symbol") or ""
    if not symbol:
        raise missing("symbol")
    return check_symbol(symbol, "symbol", market, now_ms)


def check_symbol(symbol: str, name: str, market: Market, now_ms: int) -> str:
    """Return a symbol that is well-formed and listed."""
    if not _SYMBOL.match(symbol):
        raise illegal(name, _SYMBOL_PATTERN)
    if market.instrument(symbol, now_ms) is None:
        raise invalid_symbol()
    return symbol


def symbol_list(given: Mapping[str, str], market: Market, now_ms: int) -> list[str] | None:
    """Return what ``symbol`` or ``symbols`` (a JSON array) ask for, None where neither was sent."""
    if "symbol" in given and "symbols" in given:
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    if "symbol" in given:
        return [symbol_parameter(given, market, now_ms)]
    if "symbols" not in given:
        return None
    try:
        symbols = orjson.loads(given["symbols"])
    except orjson.JSONDecodeError:
        symbols = None
    if not isinstance(symbols, list) or not symbols or not all(isinstance(name, str) for name in symbols):
        raise illegal("symbols", r'^\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\]$')
    return [check_symbol(name, "symbols", market, now_ms) for name in dict.fromkeys(symbols)]


def ticker_weight(symbols: int | None) -> int:
    """Return the weight of ticker/24hr for so many symbols; None: all of them."""
    if symbols is None or symbols > 100:
        return 80
    return 2 if symbols <= 20 else 40


def _integer(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if text == "":
        raise ApiError(-1105, f"Parameter '{name}' was empty.")
    if not _INTEGER.match(text):
        raise illegal(name, _INTEGER_PATTERN)
    value = int(text)
    if value >= 1 << 62:
        raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
    return value
