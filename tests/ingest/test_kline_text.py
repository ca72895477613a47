"""Pages read the quick way: the same frame as the careful way gives, and only where nothing is irregular."""

from __future__ import annotations

import struct
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import kline_text
from market.wire import KlinePage, NotJsonError, _read_carefully, parse_klines

prices = st.decimals(min_value=0, max_value=10**12, places=8, allow_nan=False).map(lambda value: f"{value:f}")


def row(at: int, text: str = "1.5", **changed: Any) -> list[Any]:
    values = {
        "open_time": at, "open": text, "high": text, "low": text, "close": text, "volume": text,
        "close_time": at + 59_999, "quote_volume": text, "trades": 7, "taker_buy_base": text,
        "taker_buy_quote": text, "unused": "0",
    }  # fmt: skip
    return list((values | changed).values())


def bits(frame_column: Any) -> list[bytes]:
    return [struct.pack("<d", value) for value in frame_column]


@given(st.lists(st.lists(prices, min_size=1, max_size=20), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_many_pages_together_are_read_to_the_last_bit(pages: list[list[str]]) -> None:
    bodies = [orjson.dumps([row(60_000 * at, text) for at, text in enumerate(page)]) for page in pages]
    frame = kline_text.read(bodies)
    assert frame is not None
    texts = [text for page in pages for text in page]
    for name in ("open", "volume", "taker_buy_quote"):
        assert bits(frame[name]) == [struct.pack("<d", float(text)) for text in texts]
    for body in bodies:
        one = kline_text.read([body])
        assert one is not None
        assert one.equals(_read_carefully(body)[0])


def test_the_outline_tells_rows_and_ends_without_reading() -> None:
    body = orjson.dumps([row(60_000 * at) for at in range(3, 1003)])
    assert kline_text.outline(body) == kline_text.Outline(1_000, 180_000, 60_000 * 1002)
    page = parse_klines(body)
    assert page.count == 1_000
    assert page.frame["open_time"].to_list() == [60_000 * at for at in range(3, 1003)]
    assert page.rows == orjson.loads(body)


@pytest.mark.parametrize("body", [
    b"", b"[]", b"[[]]", b"{}", b'{"code":-1,"msg":"no"}',
    orjson.dumps([row(0)])[:-1],
    orjson.dumps([row(0)])[:-30],
    orjson.dumps([row(0), row(60_000)]) + b" ",
    orjson.dumps([row(0)[:11]]),
    orjson.dumps([[*row(0), "1"]]),
    orjson.dumps([row(0, close=1.5)]),
    orjson.dumps([row(0, trades="7")]),
    orjson.dumps([row(0, close="-1")]),
    orjson.dumps([row(0, close="1e5")]),
    orjson.dumps([row(0, close="NaN")]),
    orjson.dumps([row(0, close=None)]),
    orjson.dumps([row(0, open_time="0")]),
    orjson.dumps([row(0), {"a": 1}]),
    orjson.dumps([row(0, open_time=1.5)]),
    orjson.dumps([row(0)]).replace(b"[0,", b"[,"),
])  # fmt: skip
def test_what_is_irregular_has_no_outline(body: bytes) -> None:
    assert kline_text.outline(body) is None


@pytest.mark.parametrize("change", [
    {"close": ""}, {"close": "1.2.3"}, {"close": "."}, {"trades": 7.5}, {"close": "9" * 400},
])  # fmt: skip
def test_an_irregular_value_sends_its_page_the_careful_way(change: dict[str, Any]) -> None:
    """Such a row has the right brackets, so it has an outline; the others of its page are not lost."""
    body = orjson.dumps([row(0), row(60_000, **change), row(120_000)])
    assert kline_text.outline(body) == kline_text.Outline(3, 0, 120_000)
    assert kline_text.read([body]) is None
    page = parse_klines(body)
    assert page.frame["open_time"].to_list() == [0, 120_000]
    assert [fault.position for fault in page.malformed] == [1]


def test_brackets_without_json_between_them_are_told() -> None:
    page = KlinePage.unread(
        orjson.dumps([row(0, trades=7)]).replace(b",7,", b",,"), kline_text.Outline(1, 0, 0)
    )
    with pytest.raises(NotJsonError):
        _ = page.frame


@given(st.binary(max_size=6), st.integers(0, 400), st.integers(0, 6))
@settings(max_examples=300, deadline=None)
def test_damage_anywhere_never_reads_other_than_the_careful_way(junk: bytes, at: int, cut: int) -> None:
    whole = orjson.dumps([row(0, "12.50000000"), row(60_000, "0.00010000"), row(120_000, "7.00000000")])
    body = whole[:at] + junk + whole[at + cut :]
    frame = kline_text.read([body]) if kline_text.outline(body) is not None else None
    if frame is None:
        return
    try:
        careful, malformed, _ = _read_carefully(body)
    except NotJsonError:  # a number such as 007: its value is not in doubt
        return
    assert frame.equals(careful)
    assert malformed == ()
