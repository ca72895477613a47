"""Choose the symbols to work on."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from market.client_errors import UnknownSymbolError
from market.errors import MarketError
from market.source import KlineSource
from market.symbol_names import suggest
from market.wire import SymbolInfo

UNIVERSE_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "base_asset": pl.String(),
        "quote_asset": pl.String(),
        "status": pl.String(),
        "quote_volume_24h": pl.Float64(),
        "rank": pl.Int64(),
    }
)
MEANINGS = {
    "symbol": "as the exchange writes it, such as BTCUSDT",
    "base_asset": "what is traded",
    "quote_asset": "what it is paid with",
    "status": "what the exchange says of its trading, such as TRADING or BREAK",
    "quote_volume_24h": "traded in the last 24 hours, in the quote currency; null where the exchange does not tell it",
    "rank": "1 has the highest 24-hour volume",
}
"""What each column of `UNIVERSE_SCHEMA` holds."""

_QUOTE = "USDT"
_LISTED = frozenset({"TRADING", "HALT"})
"""States of a symbol that is traded or will be again; a delisted one has another (BREAK, CLOSE, ...)."""


async def fetch_universe(
    client: KlineSource, selection: str, *, once_known: Collection[str] = ()
) -> pl.DataFrame:
    """Return the chosen symbols with their 24-hour volume, best first.

    Parameters
    ----------
    client : KlineSource
        Where to ask.
    selection : str
        "top:N" (the N symbols with the highest volume among those trading against USDT), "all" (every symbol
        that is trading), or names separated by commas (trading or not). A symbol that
        is halted for a time counts as trading.
    once_known : collection of str
        Names that were right once: where the exchange does not have one of them any more it is left out, since a
        symbol that is gone must not keep the others from being followed. Any other unknown name is a mistake.

    Returns
    -------
    pl.DataFrame
        `UNIVERSE_SCHEMA`, sorted by rank, equal volumes by name. Without a ticker the volume is null.

    Raises
    ------
    UnknownSymbolError
        If a name is unknown to the exchange, and was never known; near matches are named.
    MarketError
        If `selection` cannot be read, or chooses nothing.
    """
    wanted = selection.strip()
    count = _top_count(wanted)
    known = await client.exchange_info()
    if count is not None:
        chosen = [info for info in known if info.status in _LISTED and info.quote_asset == _QUOTE]
    elif wanted.lower() == "all":
        chosen = [info for info in known if info.status in _LISTED]
    else:
        chosen = _named(client, known, wanted, once_known)
    if not chosen:
        raise _nothing_chosen(client, known, selection)
    few = len(chosen) <= 100
    tickers = await client.ticker_24h([info.symbol for info in chosen] if few else None)
    ranked = _rank(chosen, tickers)
    if count is None:
        return ranked
    if ranked["quote_volume_24h"].null_count() == ranked.height:
        raise MarketError(
            f"{selection!r} cannot be chosen: the exchange does not tell what was traded in 24 hours",
            where=client.base_url,
            remedy='choose symbols by name, or "all"',
        )
    return ranked.head(count)


def _nothing_chosen(client: KlineSource, known: list[SymbolInfo], selection: str) -> MarketError:
    """Return the error for a selection that no symbol fits, with names that can be chosen instead."""
    against = f" against {_QUOTE}" if _top_count(selection.strip()) else ""
    examples = ",".join(info.symbol for info in known[:3])
    return MarketError(
        f"no symbol of the exchange fits {selection!r}: of the {len(known):,} that it lists none is traded{against} now"
        if selection.strip(" ,")
        else f"{selection!r} chooses no symbols",
        where=client.base_url,
        remedy='give "top:20", "all", or names separated by commas'
        + (f", such as {examples}" if examples else ""),
    )


def _top_count(selection: str) -> int | None:
    head, colon, tail = selection.partition(":")
    if not colon:
        return None
    if head.strip().lower() != "top" or not tail.strip().isdecimal() or int(tail) < 1:
        raise MarketError(
            f"{selection!r} chooses no symbols",
            where="symbols",
            remedy='give "top:20", "all", or names separated by commas',
        )
    return int(tail)


def _named(
    client: KlineSource, known: list[SymbolInfo], selection: str, once_known: Collection[str]
) -> list[SymbolInfo]:
    by_name = {info.symbol: info for info in known}
    names = dict.fromkeys(name for part in selection.split(",") if (name := part.strip()))
    unknown = [name for name in names if name not in by_name and name not in once_known]
    if unknown:
        raise UnknownSymbolError(
            f"the exchange has no symbol {', '.join(map(repr, unknown))}",
            where=client.base_url,
            remedy="; ".join(f"{name}: {suggest(name, by_name)}" for name in unknown),
        )
    return [by_name[name] for name in names if name in by_name]


def _rank(chosen: list[SymbolInfo], tickers: pl.DataFrame) -> pl.DataFrame:
    symbols = pl.DataFrame(
        [(info.symbol, info.base_asset, info.quote_asset, info.status) for info in chosen],
        schema=["symbol", "base_asset", "quote_asset", "status"],
        orient="row",
    )
    volumes = tickers.select("symbol", quote_volume_24h="quote_volume").unique("symbol")
    return (
        symbols.join(volumes, on="symbol", how="left")
        .sort("quote_volume_24h", "symbol", descending=[True, False], nulls_last=True)
        .with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))
        .cast(UNIVERSE_SCHEMA)
    )
