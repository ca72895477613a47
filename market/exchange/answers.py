"""The JSON objects of exchangeInfo and ticker/24hr, with the exchange's fields."""

from __future__ import annotations

import zlib
from typing import Any, Final

from market.exchange.limits import LimitPolicy
from market.exchange.source import DayStatistics, Instrument

UNLIMITED: Final = 2_000_000_000
"""What is advertised where there is no limit."""

_MINI_FIELDS: Final = (
    "symbol",
    "openPrice",
    "highPrice",
    "lowPrice",
    "lastPrice",
    "volume",
    "quoteVolume",
    "openTime",
    "closeTime",
    "firstId",
    "lastId",
    "count",
)


def exchange_info(instruments: list[Instrument], now_ms: int, policy: LimitPolicy) -> dict[str, Any]:
    """Return the answer of GET /api/v3/exchangeInfo."""
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": [
            rate_limit("REQUEST_WEIGHT", "MINUTE", 1, policy.weight_per_minute or UNLIMITED),
            rate_limit("ORDERS", "SECOND", 10, 100),
            rate_limit("ORDERS", "DAY", 1, 200_000),
            rate_limit("RAW_REQUESTS", "MINUTE", 5, policy.raw_per_5m or UNLIMITED),
        ],
        "exchangeFilters": [],
        "symbols": [_symbol(instrument) for instrument in instruments],
    }


def rate_limit(kind: str, interval: str, count: int, limit: int) -> dict[str, Any]:
    """Return one entry of ``rateLimits``."""
    return {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": limit}


def _symbol(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "status": instrument.status,
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": False,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(instrument),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
    }


def _filters(instrument: Instrument) -> list[dict[str, Any]]:
    tick = f"{10.0**-instrument.tick_decimals:.8f}"
    step = f"{10.0**-instrument.step_decimals:.8f}"
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000.00000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "900000000.00000000", "stepSize": step},
        {
            "filterType": "NOTIONAL",
            "minNotional": "1.00000000",
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        },
    ]


def ticker(day: DayStatistics, mini: bool) -> dict[str, Any]:
    """Return one object of GET /api/v3/ticker/24hr; bid and ask are a tick around the last price."""
    change = day.last - day.open
    percent = 100.0 * change / day.open if day.open else 0.0
    average = day.quote_volume / day.volume if day.volume else day.last
    # Trade numbers only have to be consistent with the count: they begin at a number of the symbol's own.
    first_id = zlib.crc32(day.symbol.encode()) + day.open_time // 60_000 if day.trades else -1
    full = {
        "symbol": day.symbol,
        "priceChange": _decimal(change),
        "priceChangePercent": f"{percent:.3f}",
        "weightedAvgPrice": _decimal(average),
        "prevClosePrice": _decimal(day.previous_close),
        "lastPrice": _decimal(day.last),
        "lastQty": _decimal(day.last_quantity),
        "bidPrice": _decimal(max(day.last - day.tick, 0.0)),
        "bidQty": _decimal(day.last_quantity),
        "askPrice": _decimal(day.last + day.tick),
        "askQty": _decimal(day.last_quantity),
        "openPrice": _decimal(day.open),
        "highPrice": _decimal(day.high),
        "lowPrice": _decimal(day.low),
        "volume": _decimal(day.volume),
        "quoteVolume": _decimal(day.quote_volume),
        "openTime": day.open_time,
        "closeTime": day.close_time,
        "firstId": first_id,
        "lastId": first_id + max(day.trades - 1, 0),
        "count": day.trades,
    }
    return {name: full[name] for name in _MINI_FIELDS} if mini else full


def _decimal(value: float) -> str:
    return f"{value:.8f}"
