"""The routes answer as the exchange does: paging, errors, weights, headers, shapes of recorded answers."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path

import pytest

NOW_MS = 1_741_867_230_500  # 2025-03-13T12:00:30.500Z
MINUTE_MS = 60_000
OPEN_MINUTE = NOW_MS - NOW_MS % MINUTE_MS


def klines(fetch, **query) -> list:
    status, rows, _ = fetch("/api/v3/klines?" + urllib.parse.urlencode(query))
    assert status == 200, rows
    return rows


def opens(rows) -> list[int]:
    return [row[0] for row in rows]


def test_the_newest_bars_come_without_times_and_the_last_is_open(fetch):
    rows = klines(fetch, symbol="BTCUSDT", interval="1m")
    assert len(rows) == 500
    assert rows[-1][0] == OPEN_MINUTE
    assert rows[-1][6] == OPEN_MINUTE + MINUTE_MS - 1 >= NOW_MS
    assert opens(rows) == sorted(set(opens(rows)))
    assert len(klines(fetch, symbol="BTCUSDT", interval="1m", limit=1)) == 1
    assert len(klines(fetch, symbol="BTCUSDT", interval="1m", limit=5000)) == 1000


def test_a_start_time_gives_the_oldest_from_there(fetch):
    start = OPEN_MINUTE - 2000 * MINUTE_MS
    rows = klines(fetch, symbol="BTCUSDT", interval="1m", startTime=start, limit=700)
    assert rows[0][0] == start
    assert len(rows) == 700
    both = klines(fetch, symbol="BTCUSDT", interval="1m", startTime=start, endTime=start + 2 * MINUTE_MS)
    assert opens(both) == opens(rows)[:3]  # both ends are inclusive
    one = klines(fetch, symbol="BTCUSDT", interval="1m", startTime=start, endTime=start)
    assert opens(one) == [start]
    assert (
        klines(fetch, symbol="BTCUSDT", interval="1m", startTime=start + 1, limit=1)[0][0]
        == start + MINUTE_MS
    )
    assert klines(fetch, symbol="BTCUSDT", interval="1m", startTime=NOW_MS + 1) == []


def test_an_end_time_alone_gives_the_most_recent_up_to_it(fetch):
    end = OPEN_MINUTE - 3000 * MINUTE_MS + 17
    rows = klines(fetch, symbol="BTCUSDT", interval="1m", endTime=end, limit=10)
    assert len(rows) == 10
    assert rows[-1][0] == end - 17
    assert klines(fetch, symbol="BTCUSDT", interval="1m", endTime=1_000_000) == []


def test_forward_and_backward_pages_agree(fetch):
    start = OPEN_MINUTE - 5000 * MINUTE_MS
    forward, at = [], start
    while True:
        rows = klines(fetch, symbol="ETHUSDT", interval="1m", startTime=at, limit=1000)
        forward += rows
        if len(rows) < 1000:
            break
        at = rows[-1][0] + 1
    backward, end = [], NOW_MS
    while end >= start:
        rows = [
            row
            for row in klines(fetch, symbol="ETHUSDT", interval="1m", endTime=end, limit=613)
            if row[0] >= start
        ]
        if not rows:
            break
        backward = rows + backward
        end = rows[0][0] - 1
    assert forward == backward
    assert 4900 < len(forward) <= 5001


def test_microseconds_on_request(fetch):
    path = f"/api/v3/klines?symbol=BTCUSDT&interval=5m&limit=3&endTime={OPEN_MINUTE}"
    _, plain, _ = fetch(path)
    _, fine, _ = fetch(path, **{"X-MBX-TIME-UNIT": "MICROSECOND"})
    for ms, us in zip(plain, fine, strict=True):
        assert us[0] == ms[0] * 1000
        assert us[6] == ms[6] * 1000 + 999
        assert us[1:6] + us[7:] == ms[1:6] + ms[7:]
    assert fetch("/api/v3/time", **{"X-MBX-TIME-UNIT": "MICROSECOND"})[1] == {"serverTime": NOW_MS * 1000}
    assert fetch("/api/v3/time")[1] == {"serverTime": NOW_MS}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("symbol=NOSUCH&interval=1m", -1121),
        ("symbol=BTCUSDT&interval=7m", -1120),
        ("symbol=BTCUSDT&interval=1D", -1120),
        ("symbol=BTCUSDT", -1102),
        ("interval=1m", -1102),
        ("symbol=&interval=1m", -1102),
        ("symbol=btcusdt&interval=1m", -1100),
        ("symbol=BTC%2FUSDT&interval=1m", -1100),
        ("symbol=BTCUSDT&interval=1m&limit=ten", -1100),
        ("symbol=BTCUSDT&interval=1m&startTime=-5", -1100),
        ("symbol=BTCUSDT&interval=1m&limit=0", -1130),
        ("symbol=BTCUSDT&interval=1m&limit=", -1105),
        ("symbol=BTCUSDT&interval=1m&startTime=5&endTime=4", -1023),
        ("symbol=BTCUSDT&interval=1m&colour=red", -1104),
        ("symbol=BTCUSDT&interval=1m&timeZone=8", -1130),
    ],
)
def test_errors_carry_the_exchange_s_codes(fetch, query, code):
    status, body, headers = fetch("/api/v3/klines?" + query)
    assert status == 400
    assert set(body) == {"code", "msg"}
    assert body["code"] == code
    assert headers["x-mbx-used-weight-1m"] == "2"


def test_every_route_has_its_weight(fetch):
    used = 0
    for path, weight in [
        ("/api/v3/ping", 1),
        ("/api/v3/time", 1),
        ("/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=1000", 2),
        ("/api/v3/exchangeInfo", 20),
        ("/api/v3/exchangeInfo?symbol=BTCUSDT", 20),
        ("/api/v3/ticker/24hr?symbol=BTCUSDT", 2),
        ("/api/v3/ticker/24hr?symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D", 2),
        ("/api/v3/ticker/24hr", 80),
    ]:
        status, _, headers = fetch(path)
        assert status == 200
        used += weight
        assert headers["x-mbx-used-weight-1m"] == str(used), path


def test_exchange_info_lists_all_one_or_some(fetch):
    _, everything, _ = fetch("/api/v3/exchangeInfo")
    names = [symbol["symbol"] for symbol in everything["symbols"]]
    assert names == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT"]
    _, one, _ = fetch("/api/v3/exchangeInfo?symbol=SOLUSDT")
    assert [symbol["symbol"] for symbol in one["symbols"]] == ["SOLUSDT"]
    some = urllib.parse.quote('["ETHUSDT","BTCUSDT"]')
    _, two, _ = fetch(f"/api/v3/exchangeInfo?symbols={some}")
    assert [symbol["symbol"] for symbol in two["symbols"]] == ["ETHUSDT", "BTCUSDT"]
    assert fetch("/api/v3/exchangeInfo?symbol=NOSUCH")[1]["code"] == -1121
    assert fetch("/api/v3/exchangeInfo?symbols=BTCUSDT")[1]["code"] == -1100


def test_the_ticker_is_the_last_day_of_minutes(fetch):
    rows, start = [], OPEN_MINUTE - 1439 * MINUTE_MS
    while got := klines(fetch, symbol="BTCUSDT", interval="1m", startTime=start, limit=1000):
        rows += got
        start = got[-1][0] + 1
    _, day, _ = fetch("/api/v3/ticker/24hr?symbol=BTCUSDT")
    assert float(day["highPrice"]) == pytest.approx(max(float(row[2]) for row in rows))
    assert float(day["lowPrice"]) == pytest.approx(min(float(row[3]) for row in rows))
    assert day["lastPrice"] == rows[-1][4]
    assert float(day["volume"]) == pytest.approx(sum(float(row[5]) for row in rows))
    assert float(day["quoteVolume"]) == pytest.approx(sum(float(row[7]) for row in rows))
    assert day["count"] == sum(row[8] for row in rows) == day["lastId"] - day["firstId"] + 1
    _, mini, _ = fetch("/api/v3/ticker/24hr?symbol=BTCUSDT&type=MINI")
    assert mini.items() <= day.items()


def shape(value):
    """The types of a JSON value; strings that hold numbers are told apart from others."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return "text"
        return f"decimal with {len(value.partition('.')[2])} places"
    return type(value).__name__


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> dict:
    return json.loads((shared_data / "wire" / "binance_http_public.json").read_text())["routes"]


def test_klines_have_the_shape_of_recorded_ones(fetch, recorded):
    row = shape(recorded["/api/v3/klines"]["GET"][0]["data"][0])
    assert len(row) == 12
    for interval in ("1m", "15m", "1d", "1M"):
        assert all(
            shape(ours) == row for ours in klines(fetch, symbol="ETHUSDT", interval=interval, limit=30)
        )


def test_tickers_have_the_shape_of_recorded_ones(fetch, recorded):
    answers = recorded["/api/v3/ticker/24hr"]["GET"]
    single = next(answer["data"] for answer in answers if answer["queryString"] == "symbol=BTCUSDT")
    assert shape(fetch("/api/v3/ticker/24hr?symbol=BTCUSDT")[1]) == shape(single)
    several = next(answer for answer in answers if answer["queryString"].startswith("symbols="))
    ours = fetch("/api/v3/ticker/24hr?" + several["queryString"])[1]
    assert shape(ours) == shape(several["data"])


def test_exchange_info_has_the_fields_of_the_recorded_one(fetch, recorded):
    theirs = recorded["/api/v3/exchangeInfo"]["GET"][0]["data"]
    ours = fetch("/api/v3/exchangeInfo")[1]
    assert set(ours) == set(theirs)
    assert shape(ours["rateLimits"]) == shape(theirs["rateLimits"])
    symbol, their_symbol = ours["symbols"][0], theirs["symbols"][0]
    assert set(symbol) == set(their_symbol)
    for name in set(symbol) - {"filters", "permissionSets"}:
        assert type(symbol[name]) is type(their_symbol[name]), name
    filters = {item["filterType"]: item for item in their_symbol["filters"]}
    for item in symbol["filters"]:
        assert shape(item) == shape(filters[item["filterType"]])


def test_error_bodies_have_the_shape_of_recorded_ones(fetch, recorded):
    theirs = next(
        answer["data"]
        for answer in recorded["/fapi/v1/ticker/24hr"]["GET"]
        if isinstance(answer["data"], dict) and "code" in answer["data"]
    )
    assert fetch("/api/v3/ticker/24hr?symbol=NOSUCH")[1] == theirs


def test_an_unknown_path_is_404(fetch):
    assert fetch("/api/v3/depth?symbol=BTCUSDT")[0] == 404
