"""Single questions to the exchange, asked from ordinary code."""

from __future__ import annotations

import polars as pl

from market.loop_thread import run_sync
from market.source import MarketName
from market.sources.opening import open_source
from market.universe import fetch_universe


def exchange_time(url: str, market: MarketName = "spot") -> int:
    """Return the exchange's clock, ms UTC."""

    async def ask() -> int:
        async with open_source(url, market=market) as source:
            return await source.server_time()

    return run_sync(ask)


def chosen_symbols(url: str, selection: str, market: MarketName = "spot") -> pl.DataFrame:
    """Return the symbols that a selection names, as `market.universe.fetch_universe` does."""

    async def ask() -> pl.DataFrame:
        async with open_source(url, market=market) as source:
            return await fetch_universe(source, selection)

    return run_sync(ask)
