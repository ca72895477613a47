"""The client reads what a real exchange once sent, byte for byte as recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson
import polars as pl
import pytest
from aiohttp import web

from market import wire
from market.client import COIN_M, SPOT, USD_M, ExchangeClient
from market.client_errors import ExchangeError, RequestRefusedError, UnknownSymbolError
from market.klines import KLINE_COLUMNS, KLINE_SCHEMA, validate

Recordings = dict[str, list[tuple[dict[str, str], Any]]]


@pytest.fixture(scope="module")
def recordings(shared_data: Path) -> Recordings:
    """Recorded (query, answer) pairs by path."""
    routes = json.loads((shared_data / "wire" / "binance_http_public.json").read_bytes())["routes"]
    return {
        path: [(dict(parse_qsl(entry["queryString"])), entry["data"]) for entry in methods["GET"]]
        for path, methods in routes.items()
    }


@pytest.fixture
def recorded_url(recordings: Recordings, serve: Callable[..., str]) -> str:
    """Serves the recordings; `limit` is not looked at, since the recorder left it out at times."""

    async def answer(request: web.Request) -> web.Response:
        query = {name: value for name, value in request.query.items() if name != "limit"}
        for recorded, data in recordings.get(request.path, []):
            if query == {name: value for name, value in recorded.items() if name != "limit"}:
                is_error = isinstance(data, dict) and "code" in data
                response = web.Response(
                    body=orjson.dumps(data), status=400 if is_error else 200, content_type="application/json"
                )
                response.enable_compression()
                return response
        return web.Response(status=404, text="not recorded")

    return serve(answer)


def split(path: str) -> tuple[str, str]:
    api = next(api for api in (SPOT, USD_M, COIN_M) if path.startswith(api))
    return api, path.removeprefix(api)


def test_every_recorded_kline_page_is_read_exactly(recordings: Recordings, recorded_url: str) -> None:
    async def fetch(path: str, query: dict[str, str]) -> pl.DataFrame:
        api, route = split(path)
        async with ExchangeClient(recorded_url, api=api) as client:
            if route != "/klines":  # mark, index and continuous klines have the same rows
                return (await client.get(route, query, 1, wire.parse_klines)).value.frame
            start, end = (int(query[name]) if name in query else None for name in ("startTime", "endTime"))
            return await client.klines(
                query["symbol"], query["interval"], start, None if end is None else end + 1
            )

    pages = 0
    for path, entries in recordings.items():
        for query, rows in entries if path.lower().endswith("klines") else []:
            if isinstance(rows, dict):
                continue
            frame = asyncio.run(fetch(path, query))
            assert frame.schema == KLINE_SCHEMA
            for field, name in enumerate(KLINE_COLUMNS):
                number = int if KLINE_SCHEMA[name] == pl.Int64 else float
                assert frame[name].to_list() == [number(row[field]) for row in rows], (path, query, name)
            pages += 1
    assert pages >= 20


def test_recorded_spot_klines_pass_validation_and_follow_each_other(
    recordings: Recordings, recorded_url: str
) -> None:
    async def fetch() -> pl.DataFrame:
        async with ExchangeClient(recorded_url) as client:
            first = await client.klines("BTCUSDT", "1h", 1588280400000, 1591880400001)
            rest = await client.klines("BTCUSDT", "1h", 1591880400000, 1593572400001)
            return pl.concat([first, rest])

    good, refused = validate(asyncio.run(fetch()), "1h")
    assert (good.height, refused.height) == (1468, 0)
    steps = good["open_time"].diff().drop_nulls()
    assert sorted(steps.unique()) == [3_600_000, 14_400_000]
    assert good.filter(good["open_time"].diff() == 14_400_000)["open_time"].to_list() == [1593320400000], (
        "three bars of 2020-06-28 are missing at the exchange, and no others"
    )


def test_every_other_recorded_answer_arrives_as_sent_or_as_its_error(
    recordings: Recordings, recorded_url: str
) -> None:
    async def fetch(path: str, query: dict[str, str]) -> Any:
        api, route = split(path)
        query = {name: value for name, value in query.items() if name != "limit"}
        async with ExchangeClient(recorded_url, api=api, attempts=1) as client:
            return (await client.get(route, query, 1, wire.decode)).value

    seen = 0
    for path, entries in recordings.items():
        answered: dict[str, list[Any]] = {}
        for query, data in entries:
            key = repr(sorted((name, value) for name, value in query.items() if name != "limit"))
            answered.setdefault(key, []).append(data)
            if isinstance(data, dict) and "code" in data:
                with pytest.raises(ExchangeError, match=data["msg"].rstrip(".")):
                    asyncio.run(fetch(path, query))
            else:
                assert asyncio.run(fetch(path, query)) == answered[key][0], (path, query)
            seen += 1
    assert seen >= 60


def test_recorded_exchange_info_of_each_market(recordings: Recordings, recorded_url: str) -> None:
    async def fetch(api: str) -> tuple[list[wire.SymbolInfo], int]:
        async with ExchangeClient(recorded_url, api=api) as client:
            infos = await client.exchange_info()
            return infos, client._budget.weight_per_minute

    for api, weight in ((SPOT, 6000), (USD_M, 2400), (COIN_M, 2400)):
        infos, known = asyncio.run(fetch(api))
        [(_, recorded)] = recordings[f"{api}/exchangeInfo"]
        assert [info.symbol for info in infos] == [entry["symbol"] for entry in recorded["symbols"]]
        assert {info.status for info in infos} <= {"TRADING", "BREAK", "DELIVERING"}
        assert known == weight, "the host's own limit is taken over"


def test_recorded_tickers(recorded_url: str) -> None:
    async def fetch() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        async with ExchangeClient(recorded_url) as spot, ExchangeClient(recorded_url, api=COIN_M) as coin:
            return (
                await spot.ticker_24h(),
                await spot.ticker_24h(["BTCUSDT", "ETHUSDT"]),
                await coin.ticker_24h(),
            )

    spot, two, coin = asyncio.run(fetch())
    assert spot.schema == two.schema == coin.schema == wire.TICKER_SCHEMA
    assert spot.height == 6
    assert two["symbol"].to_list() == ["BTCUSDT", "ETHUSDT"]
    assert (two["quote_volume"] > 0).all()
    assert coin["quote_volume"].null_count() == coin.height, "not recorded there, so not made up"


def test_recorded_server_time(recorded_url: str) -> None:
    async def fetch() -> int:
        async with ExchangeClient(recorded_url, api=USD_M) as client:
            return await client.server_time()

    assert asyncio.run(fetch()) == 1620099477465


def test_recorded_refusals_keep_the_exchanges_words(recordings: Recordings, recorded_url: str) -> None:
    async def too_wide() -> None:
        async with ExchangeClient(recorded_url, api=COIN_M) as client:
            await client.klines("BTCUSD_PERP", "1d", 1546300800000, 1577836800001)

    async def unknown() -> None:
        async with ExchangeClient(recorded_url, api=USD_M) as client:
            await client.get("/ticker/24hr", {"symbol": "BTCUSD_201225"}, 1, wire.parse_tickers)

    with pytest.raises(RequestRefusedError, match=r"-4088") as refused:
        asyncio.run(too_wide())
    assert refused.value.where.startswith(recorded_url + "/dapi/v1/klines")
    with pytest.raises(UnknownSymbolError, match=r"-1121"):
        asyncio.run(unknown())
