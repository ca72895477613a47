"""Single questions to the exchange, asked from ordinary code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import polars as pl

from market.loop_thread import run_sync
from market.source import KlineSource, MarketName
from market.sources.opening import open_source
from market.universe import fetch_universe

Answer = TypeVar("Answer")

_LOOK_S: Final = 0.5


def exchange_time(url: str, market: MarketName = "spot", say: Callable[[str], None] | None = None) -> int:
    """Return the exchange's clock, ms UTC; `say` is told what is wrong while the question is asked again."""
    return _ask(url, market, lambda source: source.server_time(), say)


def chosen_symbols(
    url: str, selection: str, market: MarketName = "spot", say: Callable[[str], None] | None = None
) -> pl.DataFrame:
    """Return the symbols that a selection names, as `market.universe.fetch_universe` does."""
    return _ask(url, market, lambda source: fetch_universe(source, selection), say)


def _ask(
    url: str,
    market: MarketName,
    question: Callable[[KlineSource], Awaitable[Answer]],
    say: Callable[[str], None] | None,
) -> Answer:
    async def ask() -> Answer:
        async with open_source(url, market=market) as source:
            watching = None if say is None else asyncio.create_task(_watch(source, say))
            try:
                return await question(source)
            finally:
                if watching is not None:
                    watching.cancel()

    return run_sync(ask)


async def _watch(source: KlineSource, say: Callable[[str], None]) -> None:
    told = ""
    while True:
        await asyncio.sleep(_LOOK_S)
        trouble = source.traffic.trouble
        if trouble and trouble != told:
            say(trouble)
        told = trouble
