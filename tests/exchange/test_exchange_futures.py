"""The routes of USD-M futures answer as that market does: paging, weights by page size, limits, shapes, errors."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path

import ccxt
import pytest

NOW_MS = 1_741_867_230_500  # 2025-03-13T12:00:30.500Z
MINUTE_MS = 60_000
OPEN_MINUTE = NOW_MS - NOW_MS % MINUTE_MS


def klines(fetch, **query) -> list:
    status, rows, _ = fetch("/fapi/v1/klines?" + urllib.parse.urlencode(query))
    assert status == 200, rows
    return rows


def test_a_page_has_up_to_1500_bars_and_those_are_the_spot_market_s(fetch):
    start = OPEN_MINUTE - 3000 * MINUTE_MS
    page = klines(fetch, symbol="BTCUSDT", interval="1m", startTime=start, limit=1500)
    assert len(page) == 1500
    spot = []
    for at in (start, start + 1000 * MINUTE_MS):
        query = f"symbol=BTCUSDT&interval=1m&startTime={at}&limit=1000&endTime={page[-1][0]}"
        spot += fetch("/api/v3/klines?" + query)[1]
    assert page == spot[:1500]
    newest = klines(fetch, symbol="BTCUSDT", interval="1m")
    assert len(newest) == 500
    assert newest[-1][0] == OPEN_MINUTE


@pytest.mark.parametrize(
    ("limit", "weight"),
    [(None, 5), (1, 1), (99, 1), (100, 2), (499, 2), (500, 5), (1000, 5), (1001, 10), (1500, 10)],
)
def test_the_weight_follows_the_limit(fetch, limit, weight):
    ending = "" if limit is None else f"&limit={limit}"
    status, _, headers = fetch(f"/fapi/v1/klines?symbol=BTCUSDT&interval=1h{ending}")
    assert status == 200
    assert headers["x-mbx-used-weight-1m"] == str(weight)


def test_every_other_route_has_its_weight_and_spot_is_counted_apart(fetch):
    used = 0
    for path, weight in [
        ("/fapi/v1/ping", 1),
        ("/fapi/v1/time", 1),
        ("/fapi/v1/exchangeInfo", 1),
        ("/fapi/v1/ticker/24hr?symbol=BTCUSDT", 1),
        ("/fapi/v1/ticker/24hr", 40),
    ]:
        status, _, headers = fetch(path)
        assert status == 200
        used += weight
        assert headers["x-mbx-used-weight-1m"] == str(used), path
    assert fetch("/api/v3/time")[2]["x-mbx-used-weight-1m"] == "1"


def test_a_futures_limit_refuses_with_429_then_418_and_leaves_spot_alone(exchange, fetch):
    exchange.set_limits(weight_per_minute=20, strikes=2)
    statuses = [fetch("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1500")[0] for _ in range(6)]
    assert statuses == [200, 200, 429, 429, 418, 418]
    status, body, headers = fetch("/fapi/v1/time")
    assert (status, body["code"]) == (418, -1003)
    assert int(headers["retry-after"]) >= 1
    assert fetch("/api/v3/time")[0] == 200


def test_its_own_limit_stands_in_exchange_info(exchange, fetch):
    info = fetch("/fapi/v1/exchangeInfo")[1]
    assert info["rateLimits"][0]["limit"] == 6000, "what the limits route was given holds for both"
    exchange.set_limits(weight_per_minute=2400)
    assert fetch("/fapi/v1/exchangeInfo")[1]["rateLimits"][0]["limit"] == 2400


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("symbol=NOSUCH&interval=1m", -1121),
        ("symbol=BTCUSDT&interval=1s", -1120),
        ("symbol=BTCUSDT&interval=7m", -1120),
        ("symbol=BTCUSDT", -1102),
        ("symbol=btcusdt&interval=1m", -1100),
        ("symbol=BTCUSDT&interval=1m&limit=0", -1130),
        ("symbol=BTCUSDT&interval=1m&limit=1501", -1130),
        ("symbol=BTCUSDT&interval=1m&startTime=5&endTime=4", -1023),
        ("symbol=BTCUSDT&interval=1m&timeZone=0", -1104),
    ],
)
def test_errors_carry_the_exchange_s_codes(fetch, query, code):
    status, body, _ = fetch("/fapi/v1/klines?" + query)
    assert (status, body["code"]) == (400, code)


def test_times_are_milliseconds_whatever_is_asked(fetch):
    micro = {"X-MBX-TIME-UNIT": "MICROSECOND"}
    assert fetch("/fapi/v1/time", **micro)[1] == {"serverTime": NOW_MS}
    path = "/fapi/v1/klines?symbol=BTCUSDT&interval=5m&limit=3"
    assert fetch(path, **micro)[1] == fetch(path)[1]


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> dict:
    return json.loads((shared_data / "wire" / "binance_http_public.json").read_text())["routes"]


def kinds(value):
    """The types of a JSON value; strings that hold numbers are told apart from others."""
    if isinstance(value, dict):
        return {name: kinds(item) for name, item in value.items()}
    if isinstance(value, list):
        return [kinds(item) for item in value]
    if isinstance(value, str):
        return "decimal" if value.replace(".", "", 1).lstrip("-").isdecimal() else "text"
    return type(value).__name__


def test_answers_have_the_shape_of_recorded_ones(fetch, recorded):
    row = recorded["/fapi/v1/klines"]["GET"][0]["data"][0]
    assert kinds(klines(fetch, symbol="ETHUSDT", interval="5m", limit=1)[0]) == kinds(row)
    tickers = {entry["queryString"]: entry["data"] for entry in recorded["/fapi/v1/ticker/24hr"]["GET"]}
    one = fetch("/fapi/v1/ticker/24hr?symbol=BTCUSDT")[1]
    assert kinds(one) == kinds(tickers["symbol=BTCUSDT"])
    everyone = fetch("/fapi/v1/ticker/24hr")[1]
    assert [kinds(day) for day in everyone] == [kinds(tickers[""][0])] * 4
    assert fetch("/fapi/v1/ticker/24hr?symbol=NOSUCH")[1] == tickers["symbol=BTCUSD_201225"]
    theirs = recorded["/fapi/v1/exchangeInfo"]["GET"][0]["data"]
    ours = fetch("/fapi/v1/exchangeInfo")[1]
    assert set(ours) == set(theirs)
    assert {kind: set(entry) for kind, entry in zip("abc", ours["rateLimits"], strict=False)} == {
        kind: set(entry) for kind, entry in zip("abc", theirs["rateLimits"], strict=False)
    }
    symbol, their_symbol = ours["symbols"][0], theirs["symbols"][0]
    assert set(symbol) == set(their_symbol)
    assert (symbol["contractType"], symbol["status"]) == ("PERPETUAL", "TRADING")
    for name in set(symbol) - {"filters", "underlyingSubType"}:
        assert type(symbol[name]) is type(their_symbol[name]), name
    filters = {item["filterType"]: item for item in their_symbol["filters"]}
    for item in symbol["filters"]:
        assert kinds(item) == kinds(filters[item["filterType"]])


def test_ccxt_s_futures_client_gets_every_bar_exactly(exchange, fetch):
    client = ccxt.binanceusdm({"enableRateLimit": False, "options": {"fetchCurrencies": False}})
    client.has["fetchCurrencies"] = False
    client.urls["api"] = {
        name: exchange.url + address[address.index("/fapi/") :]
        if "/fapi/v1" in str(address)
        else exchange.url
        for name, address in client.urls["api"].items()
    }
    client.options["fetchMarkets"] = {"types": ["linear"]}
    client.load_markets()
    assert "BTC/USDT:USDT" in client.symbols
    start = OPEN_MINUTE - 1400 * MINUTE_MS
    got = client.fetch_ohlcv("BTC/USDT:USDT", "1m", start, 1000)
    served = klines(fetch, symbol="BTCUSDT", interval="1m", startTime=start, limit=1000)
    assert got == [[row[0], *map(float, row[1:6])] for row in served]
