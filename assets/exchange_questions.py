"""Single questions to the exchange, asked from ordinary code."""

from __future__ import annotations

import polars as pl

from market.client import ExchangeClient
from market.ingest import run_sync
from market.universe import fetch_universe


def exchange_time(url: str) -> int:
    """Return the exchange's clock, ms UTC."""

    async def ask() -> int:
        async with ExchangeClient(url) as client:
            return await client.server_time()

    return run_sync(ask)


def chosen_symbols(url: str, selection: str) -> pl.DataFrame:
    """Return the symbols that a selection names, as `market.universe.fetch_universe` does."""

    async def ask() -> pl.DataFrame:
        async with ExchangeClient(url) as client:
            return await fetch_universe(client, selection)

    return run_sync(ask)
