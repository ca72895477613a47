"""Which symbols to work on: the most traded, all, or those named."""

from __future__ import annotations

import polars as pl
import pytest

from market.client import ExchangeClient
from market.client_errors import UnknownSymbolError
from market.errors import MarketError
from market.exchange.launch import RunningExchange
from market.ingest import run_sync
from market.universe import UNIVERSE_SCHEMA, fetch_universe


def universe(
    exchange: RunningExchange, selection: str, once_known: frozenset[str] = frozenset()
) -> pl.DataFrame:
    async def work() -> pl.DataFrame:
        async with ExchangeClient(exchange.url) as client:
            return await fetch_universe(client, selection, once_known=once_known)

    return run_sync(work)


def test_the_most_traded_come_first(exchange: RunningExchange) -> None:
    everything = universe(exchange, "all")
    assert everything.schema == UNIVERSE_SCHEMA
    assert everything.height == 5
    assert everything["quote_volume_24h"].is_sorted(descending=True)
    assert everything["rank"].to_list() == [1, 2, 3, 4, 5]
    assert universe(exchange, " TOP:3 ").equals(everything.head(3))
    assert universe(exchange, "top:50").equals(everything)


def test_named_symbols(exchange: RunningExchange) -> None:
    named = universe(exchange, "ETHUSDT, BTCUSDT,,ETHUSDT")
    assert sorted(named["symbol"]) == ["BTCUSDT", "ETHUSDT"]
    assert named["base_asset"].to_list() == [symbol.removesuffix("USDT") for symbol in named["symbol"]]
    assert (named["quote_volume_24h"] > 0).all()


def test_unknown_names_are_refused_with_near_matches(exchange: RunningExchange) -> None:
    with pytest.raises(UnknownSymbolError) as failure:
        universe(exchange, "BTCUSDT,ETHUSD,sol-usdt")
    assert "'ETHUSD', 'sol-usdt'" in failure.value.what
    assert "ETHUSD: did you mean ETHUSDT" in failure.value.remedy
    assert "sol-usdt: did you mean SOLUSDT?" in failure.value.remedy


def test_a_halted_symbol_stays_and_a_delisted_one_goes(scripted, serve) -> None:
    for name, status in {"AAAUSDT": "TRADING", "BBBUSDT": "HALT", "CCCUSDT": "BREAK"}.items():
        scripted.fill(name, "1m", 0, 60_000)
        scripted.status[name] = status

    async def choose(selection: str) -> list[str]:
        async with ExchangeClient(serve(scripted)) as client:
            return sorted((await fetch_universe(client, selection))["symbol"])

    assert run_sync(lambda: choose("all")) == ["AAAUSDT", "BBBUSDT"]
    assert run_sync(lambda: choose("CCCUSDT")) == ["CCCUSDT"], "by name it can be had all the same"


@pytest.mark.parametrize("selection", ["top:", "top:0", "top:x", "best:3", "", " , "])
def test_what_chooses_nothing_is_refused(exchange: RunningExchange, selection: str) -> None:
    with pytest.raises(MarketError) as failure:
        universe(exchange, selection)
    assert "top:20" in failure.value.remedy


def test_a_symbol_that_is_gone_does_not_keep_the_others_from_being_followed(
    exchange: RunningExchange,
) -> None:
    gone = frozenset({"GONEUSDT"})
    assert universe(exchange, "GONEUSDT,BTCUSDT", gone)["symbol"].to_list() == ["BTCUSDT"]
    with pytest.raises(UnknownSymbolError, match="OTHERUSDT") as caught:
        universe(exchange, "GONEUSDT,BTCUSDT,OTHERUSDT", gone)
    assert "GONEUSDT" not in str(caught.value)
    with pytest.raises(MarketError, match="no symbol of the exchange fits"):
        universe(exchange, "GONEUSDT", gone)
