"""USD-M futures through the client and the ingest: the market's own pages, weights and budget."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from market.client import COIN_M, SPOT, USD_M, ExchangeClient
from market.exchange.launch import RunningExchange
from market.ingest import ingest_sync
from market.source import KlineSource
from market.store import KlineStore
from market.universe import fetch_universe

NOW = 1_735_700_000_000
MINUTE = 60_000


def weights(served: RunningExchange) -> dict[str, tuple[int, int]]:
    routes = served.info()["served"]["routes"]
    return {path: (counter["requests"], counter["weight"]) for path, counter in routes.items()}


def test_futures_bars_come_whole_and_cheaply(served: RunningExchange, home: Path) -> None:
    start = NOW - NOW % MINUTE - 3_000 * MINUTE
    with KlineStore.open(home / "spot") as spot, KlineStore.open(home / "usd_m") as futures:
        ingest_sync(served.url, spot, ["BTCUSDT", "ETHUSDT"], ["1m"], start=start)
        served.reset_counters()
        report = ingest_sync(served.url, futures, ["BTCUSDT", "ETHUSDT"], ["1m"], start=start, market="usd_m")
        assert report.failures == []
        assert report.total("inserted") > 5_900
        ours = futures.scan("1m").collect().sort("symbol", "open_time")
        assert ours.equals(spot.scan("1m").collect().sort("symbol", "open_time"))
    asked = weights(served)
    assert set(asked) <= {"/fapi/v1/klines", "/fapi/v1/time", "/fapi/v1/exchangeInfo"}
    requests, weight = asked["/fapi/v1/klines"]
    assert report.weight == sum(weight for _, weight in asked.values()), "the client knows what it pays"
    assert weight <= 2 * 2 * (-(-3_000 // 499) + 1), "pages of 499 bars for 2, the cheapest"
    assert requests <= 16


def test_the_universe_of_futures(served: RunningExchange) -> None:
    async def choose() -> list[str]:
        async with ExchangeClient(served.url, api=USD_M) as client:
            top = await fetch_universe(client, "top:2")
            named = await fetch_universe(client, "SOLUSDT")
            assert named["quote_volume_24h"][0] > 0
            return top["symbol"].to_list()

    assert asyncio.run(choose()) == ["BTCUSDT", "ETHUSDT"]
    assert weights(served)["/fapi/v1/ticker/24hr"] == (2, 80)


@pytest.mark.parametrize(("api", "most"), [(SPOT, 1_000), (USD_M, 1_500), (COIN_M, 1_500)])
def test_every_market_has_its_page(api: str, most: int) -> None:
    source: KlineSource = ExchangeClient("http://127.0.0.1:1", api=api)
    assert (source.max_klines, source.kind, source.name) == (most, "rest", "http://127.0.0.1:1")


def test_the_cheapest_page_of_futures_is_that_of_the_weights(served: RunningExchange) -> None:
    """What the exchange counts: no page size brings a bar for less weight than the one chosen."""

    async def weigh(limit: int) -> int:
        async with ExchangeClient(served.url, api=USD_M) as client:
            return (await client.klines_page("BTCUSDT", "1m", NOW - 2_000 * MINUTE, limit=limit)).weight

    source = ExchangeClient(served.url, api=USD_M)
    cost = {limit: asyncio.run(weigh(limit)) for limit in (99, 100, 499, 500, 1_000, 1_500)}
    served_weight = weights(served)["/fapi/v1/klines"][1]
    assert sum(cost.values()) == served_weight
    assert min(cost, key=lambda limit: cost[limit] / limit) == source.best_limit(10_000) == 499
    assert cost[source.best_limit(50)] == 1
    assert ExchangeClient(served.url).best_limit(50) == 1_000


def test_a_whole_page_of_1500(served: RunningExchange) -> None:
    async def page() -> int:
        async with ExchangeClient(served.url, api=USD_M) as client:
            return (await client.klines("BTCUSDT", "1m", NOW - 3_000 * MINUTE)).height

    assert asyncio.run(page()) == 1_500
