"""Kline rows from bytes: exact, quick, and nothing lost when a row is broken."""

from __future__ import annotations

import struct
import time
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.klines import KLINE_SCHEMA
from market.wire import NotJsonError, ShapeError, parse_klines


def row(open_time: int = 0, **changed: Any) -> list[Any]:
    values = {
        "open_time": open_time, "open": "1.5", "high": "2", "low": "1", "close": "1.25", "volume": "10",
        "close_time": open_time + 59_999, "quote_volume": "13", "trades": 7, "taker_buy_base": "4",
        "taker_buy_quote": "5.2", "unused": "0",
    }  # fmt: skip
    return list((values | changed).values())


decimals = st.one_of(
    st.decimals(min_value=0, max_value=10**12, places=8, allow_nan=False).map(str),
    st.floats(min_value=0, allow_infinity=False, allow_nan=False).map(repr),
)


@given(st.lists(decimals, min_size=1, max_size=50))
@settings(max_examples=100, deadline=None)
def test_decimal_strings_become_the_nearest_float64(texts: list[str]) -> None:
    page = parse_klines(orjson.dumps([row(at, close=text) for at, text in enumerate(texts)]))
    wanted = [struct.pack("<d", float(text)) for text in texts]
    assert [struct.pack("<d", value) for value in page.frame["close"]] == wanted
    assert not page.malformed


def test_an_empty_page_has_the_schema() -> None:
    page = parse_klines(b"[]")
    assert page.frame.schema == KLINE_SCHEMA
    assert page.frame.height == 0


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (row(60_000)[:11], "11 fields instead of 12"),
        ([*row(60_000), "more"], "13 fields instead of 12"),
        (row(60_000, close="abc"), "close is not a finite number: 'abc'"),
        (row(60_000, close=None), "close is not a finite number: None"),
        (row(60_000, close="NaN"), "close is not a finite number: 'NaN'"),
        (row(60_000, volume="1e400"), "volume is not a finite number"),
        (row(60_000, volume="1_0"), "volume is not a finite number"),
        (row(60_000, volume=True), "volume is not a finite number: True"),
        (row(60_000, trades="7"), "trades is not a whole number: '7'"),
        (row(60_000, trades=7.5), "trades is not a whole number: 7.5"),
        (["60000", *row(60_000)[1:]], "open_time is not a whole number"),
        ({"open_time": 60_000}, "this is a dict"),
        ("twelve chars", "this is a str"),
        (None, "this is a NoneType"),
    ],
)
def test_a_broken_row_is_set_aside_with_its_text_and_its_page_survives(broken: Any, reason: str) -> None:
    page = parse_klines(orjson.dumps([row(0), broken, row(120_000)]))
    assert page.frame["open_time"].to_list() == [0, 120_000]
    assert page.frame.schema == KLINE_SCHEMA
    [malformed] = page.malformed
    assert reason in malformed.reason
    assert orjson.loads(malformed.raw) == broken
    assert malformed.position == 1


def test_numbers_in_place_of_strings_are_read() -> None:
    page = parse_klines(orjson.dumps([row(0, close=1.25, volume=10)]))
    assert page.frame.row(0)[4:6] == (1.25, 10.0)
    assert not page.malformed


def test_what_is_no_page_is_told_apart() -> None:
    with pytest.raises(NotJsonError):
        parse_klines(orjson.dumps([row(0)])[:-30])
    with pytest.raises(ShapeError, match="code"):
        parse_klines(b'{"code":-1,"msg":"no"}')


def test_a_full_page_takes_well_under_two_milliseconds_on_an_idle_core() -> None:
    texts = [f"{60_000 + at * 0.37:.8f}" for at in range(1000)]
    body = orjson.dumps([row(at * 60_000, open=text, close=text) for at, text in enumerate(texts)])
    best = min(_seconds(body) for _ in range(15))
    assert parse_klines(body).frame["close"].to_list() == [float(text) for text in texts]
    assert best < 0.02, "ten times what it takes, so that a busy machine does not fail"


def _seconds(body: bytes) -> float:
    started = time.perf_counter()
    frame = parse_klines(body).frame
    elapsed = time.perf_counter() - started
    assert isinstance(frame, pl.DataFrame)
    return elapsed


def test_what_an_ohlcv_source_cannot_know_is_null_and_not_zero() -> None:
    known = [0, "1", "2", "1", "2", "5", 59_999, "7", 3, "2", "3", "0"]
    unknown = [60_000, "1", "2", "1", "2", "5", 119_999, "0", 0, "0", "0", "0"]
    quiet = [120_000, "2", "2", "2", "2", "0", 179_999, "0", 0, "0", "0", "0"]
    frame = parse_klines(orjson.dumps([known, unknown, quiet])).frame
    assert frame["trades"].to_list() == [3, None, 0]
    for name in ("quote_volume", "taker_buy_base", "taker_buy_quote"):
        assert frame[name].is_null().to_list() == [False, True, False]
    assert frame["volume"].to_list() == [5.0, 5.0, 0.0]
