"""USD-M futures: the routes under /fapi/v1, over the same market as the spot routes.

Every symbol is a perpetual contract with the spot symbol's name and bars. What differs is the protocol: pages of up to
1,500 bars, weight that grows with the page, 2,400 weight a minute, other fields of exchangeInfo and ticker/24hr.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from market.exchange import answers
from market.exchange.limits import LimitPolicy
from market.exchange.protocol import KlineRules
from market.exchange.source import DayStatistics, Instrument

PREFIX: Final = "/fapi/v1"
WEIGHT_PER_MINUTE: Final = 2_400
KLINES: Final = KlineRules(
    ("symbol", "interval", "startTime", "endTime", "limit"), 1_500, True, frozenset({"1s"})
)
_DEFAULT_LIMIT: Final = 500
_WEIGHTS: Final = ((100, 1), (500, 2), (1_001, 5))  # limit below: weight
_LARGEST_WEIGHT: Final = 10
_NO_DELIVERY: Final = 4_133_404_800_000  # the exchange's own: 2100-12-25
_ONBOARD: Final = 1_569_398_400_000
_NOT_IN_TICKER: Final = frozenset({"prevClosePrice", "bidPrice", "bidQty", "askPrice", "askQty"})


def limit_policy(weight_per_minute: int = WEIGHT_PER_MINUTE) -> LimitPolicy:
    """Return the limits of this market: weight alone, requests are not counted."""
    return LimitPolicy(weight_per_minute=weight_per_minute, raw_per_5m=0)


def klines_weight(query: Mapping[str, str]) -> int:
    """Return the weight of a klines request: 1 below 100 bars, 2 below 500, 5 up to 1,000, then 10."""
    text = query.get("limit", "")
    limit = int(text) if text.isdecimal() and len(text) < 20 else _DEFAULT_LIMIT
    return next((weight for bound, weight in _WEIGHTS if limit < bound), _LARGEST_WEIGHT)


def ticker_weight(query: Mapping[str, str]) -> int:
    """Return the weight of ticker/24hr: 1 for a symbol, 40 for all."""
    return 1 if query.get("symbol") else 40


def exchange_info(instruments: list[Instrument], now_ms: int, policy: LimitPolicy) -> dict[str, Any]:
    """Return the answer of GET /fapi/v1/exchangeInfo."""
    quotes = dict.fromkeys(instrument.quote for instrument in instruments)
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            answers.rate_limit("REQUEST_WEIGHT", "MINUTE", 1, policy.weight_per_minute or answers.UNLIMITED),
            answers.rate_limit("ORDERS", "MINUTE", 1, 1_200),
            answers.rate_limit("ORDERS", "SECOND", 10, 300),
        ],
        "exchangeFilters": [],
        "assets": [
            {"asset": name, "marginAvailable": True, "autoAssetExchange": "-10000"} for name in quotes
        ],
        "symbols": [_symbol(instrument) for instrument in instruments],
    }


def _symbol(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "pair": instrument.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": _NO_DELIVERY,
        "onboardDate": _ONBOARD,
        "status": instrument.status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": instrument.base,
        "quoteAsset": instrument.quote,
        "marginAsset": instrument.quote,
        "pricePrecision": instrument.tick_decimals,
        "quantityPrecision": instrument.step_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10_000,
        "filters": _filters(instrument),
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        "permissionSets": ["GRID", "COPY"],
    }


def _filters(instrument: Instrument) -> list[dict[str, Any]]:
    tick = f"{10.0**-instrument.tick_decimals:.{instrument.tick_decimals}f}"
    step = f"{10.0**-instrument.step_decimals:.{instrument.step_decimals}f}"
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "900000000", "stepSize": step},
        {"filterType": "MARKET_LOT_SIZE", "minQty": step, "maxQty": "900000000", "stepSize": step},
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
    ]


def ticker(day: DayStatistics) -> dict[str, Any]:
    """Return one object of GET /fapi/v1/ticker/24hr: the spot one without bid, ask and previous close."""
    full = answers.ticker(day, mini=False)
    return {name: value for name, value in full.items() if name not in _NOT_IN_TICKER}
