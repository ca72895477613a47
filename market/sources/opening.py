"""The one place that chooses between the sources that bars come from."""

from __future__ import annotations

from typing import Any, Final

from market.client import SPOT, USD_M, ExchangeClient
from market.rate_limit import Priority
from market.source import MarketName
from market.sources.ccxt_names import exchange_id, is_ccxt
from market.sources.ccxt_source import CcxtSource

_ROUTES: Final[dict[str, str]] = {"spot": SPOT, "usd_m": USD_M}


def open_source(
    url: str, *, market: MarketName = "spot", priority: Priority = "sweep", **options: Any
) -> ExchangeClient | CcxtSource:
    """Return the source behind a URL, for use with ``async with``.

    Parameters
    ----------
    url : str
        The base URL of a host that speaks Binance's protocol, or ``ccxt:<id>`` with an exchange's name in ccxt.
    market : "spot" or "usd_m"
        Which market of it: spot, or perpetual futures settled in dollar coins.
    priority : "sweep" or "backfill"
        Who waits first when request weight gets scarce; ccxt has a limiter of its own, which knows no priorities.
    **options
        For `ExchangeClient` or `CcxtSource`.

    Raises
    ------
    MarketError
        If the URL is no base URL, or ccxt has no such exchange.
    """
    if is_ccxt(url):
        return CcxtSource(exchange_id(url), market=market, **options)
    options.setdefault("api", _ROUTES[market])
    return ExchangeClient(url, priority=priority, **options)
