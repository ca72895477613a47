"""Single questions to the exchange, asked from ordinary code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import polars as pl

from market.loop_thread import run_sync
from market.progress import telling_trouble
from market.source import KlineSource, MarketName
from market.sources.opening import open_source
from market.universe import fetch_universe

Answer = TypeVar("Answer")


def exchange_time(url: str, market: MarketName = "spot", say: Callable[[str], None] | None = None) -> int:
    """Return the exchange's clock, ms UTC; `say` is told what is wrong while the question is asked again."""
    return _ask(url, market, lambda source: source.server_time(), say)


def chosen_symbols(
    url: str,
    selection: str,
    market: MarketName = "spot",
    say: Callable[[str], None] | None = None,
    *,
    once_known: Collection[str] = (),
) -> pl.DataFrame:
    """Return the symbols that a selection names, as `market.universe.fetch_universe` does."""
    return _ask(url, market, lambda source: fetch_universe(source, selection, once_known=once_known), say)


def _ask(
    url: str,
    market: MarketName,
    question: Callable[[KlineSource], Awaitable[Answer]],
    say: Callable[[str], None] | None,
) -> Answer:
    async def ask() -> Answer:
        async with (
            open_source(url, market=market) as source,
            telling_trouble(source.traffic, say or (lambda trouble: None)),
        ):
            return await question(source)

    return run_sync(ask)
