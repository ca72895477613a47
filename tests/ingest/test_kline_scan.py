"""Pages and archive lines read by the scanner: what the careful way gives, to the last bit, and nothing irregular."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import kline_scan
from market.wire import NotJsonError, decode, parse_klines, put_off_klines, read_rows, read_together

prices = st.decimals(min_value=0, max_value=10**12, places=8, allow_nan=False).map(lambda value: f"{value:f}")
decimals = prices | st.from_regex(r"[0-9]{1,25}(\.[0-9]{1,25})?", fullmatch=True)


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    kline_scan.load()


def row(at: int, text: str = "1.5", **changed: Any) -> list[Any]:
    values = {
        "open_time": at, "open": text, "high": text, "low": text, "close": text, "volume": text,
        "close_time": at + 59_999, "quote_volume": text, "trades": 7, "taker_buy_base": text,
        "taker_buy_quote": text, "unused": "0",
    }  # fmt: skip
    return list((values | changed).values())


def line(fields: list[Any]) -> str:
    return ",".join(map(str, fields))


def bits(values: Any) -> list[bytes]:
    return [struct.pack("<d", value) for value in values]


@given(st.lists(st.lists(decimals, min_size=1, max_size=20), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_every_decimal_is_the_nearest_float(pages: list[list[str]]) -> None:
    rows = [[row(60_000 * at, text) for at, text in enumerate(page)] for page in pages]
    taken = [parse_klines(orjson.dumps(page)) for page in rows]
    assert all(page.columns is not None for page in taken)
    frame = read_together(taken)
    texts = [text for page in pages for text in page]
    assert frame is not None
    for name in kline_scan.DECIMALS:
        assert bits(frame[name]) == bits(map(float, texts))
    lines = kline_scan.scan_csv("\n".join(line(fields) for page in rows for fields in page).encode())
    assert lines is not None
    assert lines.frame().equals(frame)


def test_the_scanner_and_the_careful_way_agree_on_a_page() -> None:
    rows = [row(60_000 * at, f"{at}.25000000", trades=at) for at in range(3, 1003)]
    body = orjson.dumps(rows)
    page = parse_klines(body)
    assert page.columns is not None
    assert (page.count, page.outline.first, page.outline.last) == (1_000, 180_000, 60_000 * 1002)  # type: ignore[union-attr]
    assert page.frame.equals(read_rows(rows)[0])
    assert list(page.rows) == rows
    assert page.malformed == ()


def test_volume_without_trades_means_unknown_trades() -> None:
    page = parse_klines(orjson.dumps([row(0, trades=0), row(60_000)]))
    assert page.frame["trades"].to_list() == [None, 7]
    assert page.frame["taker_buy_quote"].to_list() == [None, 1.5]


IRREGULAR = [
    {"close": 1.5}, {"trades": "7"}, {"close": "-1"}, {"close": "+1"}, {"close": "1e5"}, {"close": "NaN"},
    {"close": None}, {"open_time": "0"}, {"open_time": 1.5}, {"open_time": -1}, {"close": ""}, {"close": "1.2.3"},
    {"close": "."},
    {"close": ".5"}, {"close": "5."}, {"trades": 7.5}, {"trades": 10**18}, {"close": " 1"}, {"unused": "x"},
]  # fmt: skip


@pytest.mark.parametrize("change", IRREGULAR)
def test_an_irregular_value_sends_its_page_the_careful_way(change: dict[str, Any]) -> None:
    rows = [row(0), row(60_000, **change), row(120_000)]
    body = orjson.dumps(rows)
    assert kline_scan.scan_answer(body) is None
    page = parse_klines(body)
    readable, malformed = read_rows(rows)
    assert page.frame.equals(readable)
    assert page.malformed == malformed
    assert 0 in page.frame["open_time"]
    assert 120_000 in page.frame["open_time"]


@pytest.mark.parametrize("body", [
    b"", b"[]", b"[[]]", b"{}", b"[[", b"]]", b"[[]", b"[[1]]", b'{"code":-1,"msg":"no"}',
    orjson.dumps([row(0)])[:-1],
    orjson.dumps([row(0)])[:-30],
    orjson.dumps([row(0), row(60_000)]) + b" ",
    orjson.dumps([row(0)]) + b"]",
    orjson.dumps([row(0)])[:-1] + b",]]",
    orjson.dumps([row(0)[:11]]),
    orjson.dumps([[*row(0), "1"]]),
    orjson.dumps([row(0), {"a": 1}]),
    orjson.dumps([row(0)]).replace(b"[0,", b"[,"),
    orjson.dumps([row(60_000)]).replace(b"[60000", b"[060000"),
])  # fmt: skip
def test_what_is_no_list_of_regular_rows_is_not_scanned(body: bytes) -> None:
    assert kline_scan.scan_answer(body) is None


@given(st.binary(max_size=6), st.integers(0, 400), st.integers(0, 6))
@settings(max_examples=600, deadline=None)
def test_damage_anywhere_never_reads_other_than_the_careful_way(junk: bytes, at: int, cut: int) -> None:
    whole = orjson.dumps([row(0, "12.50000000"), row(60_000, "0.00010000"), row(120_000, "7.00000000")])
    body = whole[:at] + junk + whole[at + cut :]
    columns = kline_scan.scan_answer(body)
    if columns is not None:
        careful, malformed = read_rows(decode(body))
        assert columns.frame().equals(careful)
        assert malformed == ()


@given(st.binary(max_size=4), st.integers(0, 330), st.integers(0, 4))
@settings(max_examples=600, deadline=None)
def test_damaged_lines_are_read_as_they_stand_or_not_at_all(junk: bytes, at: int, cut: int) -> None:
    whole = "".join(f"{line(row(60_000 * minute, '12.50000000'))}\n" for minute in range(3)).encode()
    text = whole[:at] + junk + whole[at + cut :]
    columns = kline_scan.scan_csv(text)
    if columns is None:
        return
    fields = [one.split(",") for one in text.decode().removesuffix("\n").replace("\r\n", "\n").split("\n")]
    assert all(len(one) == kline_scan._FIELDS for one in fields)
    assert columns.open_time.tolist() == [int(one[0]) for one in fields]
    assert columns.decimals[0].tolist() == [float(one[1]) for one in fields]


def test_carriage_returns_and_a_last_line_without_an_end_are_lines_too() -> None:
    lines = [line(row(60_000 * minute)) for minute in range(3)]
    whole = kline_scan.scan_csv("\n".join(lines).encode())
    windows = kline_scan.scan_csv("\r\n".join([*lines, ""]).encode())
    assert whole is not None
    assert windows is not None
    assert whole.rows == 3
    assert whole.frame().equals(windows.frame())
    assert kline_scan.scan_csv(b"") is None
    assert kline_scan.scan_csv(b"\n") is None


def test_a_page_that_is_no_json_is_told_when_its_rows_are_looked_at() -> None:
    body = orjson.dumps([row(0), row(60_000, trades=7)]).replace(b",7,", b",,")
    with pytest.raises(NotJsonError):
        parse_klines(body)
    page = put_off_klines(body)
    assert page.columns is None
    assert not page.is_json()
    assert read_together([page]) is None
    with pytest.raises(NotJsonError):
        _ = page.frame


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2000), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_pages_scanned_in_one_go_do_not_run_into_each_other(sizes: list[int], at: int, byte: int) -> None:
    """One byte of one page is changed; all pages are read as the careful way reads each of them, or not at all."""
    bodies = [orjson.dumps([row(60_000 * minute, "7.25") for minute in range(size)]) for size in sizes]
    of, place = at % len(bodies), at % len(bodies[at % len(bodies)])
    bodies[of] = bodies[of][:place] + bytes([byte]) + bodies[of][place + 1 :]
    columns = kline_scan.scan_answers(bodies, sizes)
    if columns is not None:
        careful = [read_rows(decode(body)) for body in bodies]
        assert columns.frame().equals(pl.concat([frame for frame, _ in careful]))
        assert not any(malformed for _, malformed in careful)
    assert kline_scan.scan_answers(bodies, [*sizes[:-1], sizes[-1] + 1]) is None


@pytest.mark.parametrize("digits", range(1, 26))
def test_numbers_of_any_length(digits: int) -> None:
    """Words of eight digits are read at a time: every length once, in every field, whole and broken."""
    texts = ["1234567890123456789012345"[:digits]]
    texts += [f"{texts[0][:point]}.{texts[0][point:]}" for point in range(1, digits)]
    page = parse_klines(orjson.dumps([row(60_000 * at, text) for at, text in enumerate(texts)]))
    assert page.columns is not None
    assert bits(page.frame["taker_buy_quote"]) == bits(map(float, texts))
    lines = kline_scan.scan_csv("\n".join(line(row(60_000, text)) for text in texts).encode())
    assert lines is not None
    assert bits(lines.frame()["close"]) == bits(map(float, texts))


def test_a_damaged_cache_is_no_reason_not_to_read(tmp_path: Path) -> None:
    """What Numba has kept was cut off, by a power cut say: it is compiled anew."""
    script = "from market import kline_scan; kline_scan.load(); print(kline_scan.is_loaded())"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout == "True\n", done.stderr
        kept = [path for path in tmp_path.rglob("*") if path.suffix in (".nbi", ".nbc")]
        assert kept
        for path in kept:
            path.write_bytes(path.read_bytes()[:5])


def test_pages_that_the_scanner_has_not_seen_are_read_together_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [
        orjson.dumps([row(60_000 * at, "0.1"), row(60_000 * at + 60_000, "7")]) for at in range(0, 6, 2)
    ]
    scanned = read_together([parse_klines(body) for body in bodies])
    monkeypatch.setattr(kline_scan, "_scanner", None)
    pages = [parse_klines(body) for body in bodies]
    assert all(page.columns is None and page.outline is not None for page in pages)
    frame = read_together(pages)
    assert isinstance(frame, pl.DataFrame)
    assert scanned is not None
    assert frame.equals(scanned)
    bad = parse_klines(orjson.dumps([row(0), row(60_000, close="x"), row(120_000)]))
    assert read_together([*pages, bad]) is None
