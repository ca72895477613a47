"""What is taken from a zip, and what is refused: nothing is guessed, nothing is stored of a bad file."""

from __future__ import annotations

import io
import random
import struct
import zipfile

import polars as pl
import pytest

from market.archives.errors import ArchiveFileError
from market.archives.names import daily, monthly
from market.archives.rows import HEADER, parse
from market.archives.unzip import most_csv_bytes, unzip
from market.klines import KLINE_COLUMNS

from .conftest import DAY, MARCH, month_csv, row, zipped

LENGTH = 900_000
FILE = daily("spot", "BTCUSDT", "15m", MARCH)
CSV = month_csv(MARCH, MARCH + DAY)


def test_a_sound_file() -> None:
    parsed = parse(FILE, unzip(FILE, zipped(FILE.csv_name, CSV)))
    assert (parsed.rows, parsed.unit, parsed.header, parsed.refused.height) == (96, "us", False, 0)
    assert parsed.good["open_time"].to_list() == list(range(MARCH, MARCH + DAY, LENGTH))
    assert parsed.good.row(0) == (
        "BTCUSDT", MARCH, 1.0, 2.0, 1.0, 1.5, 9.5, MARCH + LENGTH - 1, 13.25, 7, 4.5, 6.25,
    )  # fmt: skip


def test_milliseconds_header_and_line_endings() -> None:
    lines = [HEADER, *(row(at) for at in range(MARCH, MARCH + DAY, LENGTH))]
    futures = daily("futures/um", "BTCUSDT", "15m", MARCH)
    parsed = parse(futures, "\r\n".join(lines).encode())
    assert (parsed.rows, parsed.unit, parsed.header) == (96, "ms", True)
    assert parsed.good.equals(parse(FILE, CSV.encode()).good)


def test_decimals_become_the_nearest_float() -> None:
    """Against Python's own conversion, which is exact, also where many digits lie next to a half."""
    draw = random.Random(3)
    texts = ["9007199254740993.0", "0.1", "2.2250738585072011e-308", "1.00000000000000011102230246251565404"]
    texts += [
        f"{draw.randint(1, 10 ** draw.randint(1, 18))}.{draw.randint(0, 10**17):017d}" for _ in range(92)
    ]
    lines = [
        f"{MARCH + at * LENGTH},{text},{text},{text},{text},{text},{MARCH + at * LENGTH + LENGTH - 1},{text},7,0,0,0"
        for at, text in enumerate(texts)
    ]
    parsed = parse(FILE, "\n".join(lines).encode())
    assert parsed.refused.height == 0
    for name in ("open", "high", "low", "close", "volume", "quote_volume"):
        assert parsed.good[name].to_list() == [float(text) for text in texts]


FOURTH, NEXT = MARCH + 4 * LENGTH, MARCH + 5 * LENGTH
BAD_ROWS = {
    "2 fields instead of 12": "x,y",
    "open_time is not a whole number: 'then'": row(FOURTH, factor=1_000).replace(str(FOURTH * 1_000), "then"),
    "close is not a finite number: 'NaN'": row(FOURTH, close="NaN", factor=1_000),
    "high is below open, close or low": row(FOURTH, close="5", factor=1_000),
    "a volume or count is negative": row(FOURTH, factor=1_000).replace(",9.5,", ",-9.5,"),
    "taker_buy_base exceeds volume": row(FOURTH, factor=1_000).replace(",4.5,", ",40,"),
    "open_time is not on the 15m grid": row(FOURTH + 60_000, factor=1_000),
    "close_time is not open_time + 899999": row(FOURTH, 300_000, factor=1_000),
    "open_time or close_time in µs is not on a whole ms": row(FOURTH, factor=1_000).replace("00000,1.", "00300,1."),
    "open_time and close_time are not in the same unit": row(FOURTH, factor=1_000).replace(
        f"{NEXT * 1_000 - 1}", f"{NEXT - 1}"
    ),
    "open_time is outside the day of the file": row(MARCH + DAY, factor=1_000),
    "duplicate": row(NEXT, factor=1_000),
    "1 fields instead of 12": "",
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD_ROWS)
def test_a_bad_row_is_refused_with_its_text_and_the_others_are_kept(reason: str) -> None:
    lines = CSV.splitlines()
    lines[4] = BAD_ROWS[reason]
    parsed = parse(FILE, "\n".join(lines).encode())
    assert parsed.refused.select("symbol", "reason", "raw").rows() == [("BTCUSDT", reason, BAD_ROWS[reason])]
    assert parsed.good.height == 95


def test_rows_in_both_units_are_each_taken_in_their_own() -> None:
    lines = CSV.splitlines()
    lines[5] = row(MARCH + 5 * LENGTH)
    parsed = parse(FILE, "\n".join(lines).encode())
    assert parsed.unit == "mixed"
    assert parsed.refused.is_empty()
    assert parsed.good.equals(parse(FILE, CSV.encode()).good)


def test_unknown_trades_are_null_as_on_the_wire() -> None:
    lines = CSV.splitlines()
    lines[3] = row(MARCH + 3 * LENGTH, factor=1_000).replace(",13.25,7,4.5,6.25,", ",0,0,0,0,")
    good = parse(FILE, "\n".join(lines).encode()).good
    assert good.row(3)[-4:] == (None, None, None, None)
    assert good.select(pl.col(KLINE_COLUMNS).null_count().sum()).row(0)[-4:] == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("csv", "says"),
    [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("<html><body>nothing here</body></html>", "neither a kline nor the header"),
        ("time;open;high;low;close\n1;2;3;4;5\n", "neither a kline nor the header"),
        ("close_time," + HEADER + "\n" + CSV, "neither a kline nor the header"),
        (HEADER + "\n", "it has no rows"),
        ("1,2,3\n4,5,6\n", "not one of its 2 rows is one"),
        (month_csv(MARCH, MARCH + DAY, length=60_000), "the first: close_time is not open_time + 899999"),
        (month_csv(MARCH + DAY, MARCH + 2 * DAY), "outside the day of the file"),
    ],
)
def test_a_csv_that_is_not_klines_of_this_file(csv: str, says: str) -> None:
    with pytest.raises(ArchiveFileError) as caught:
        parse(FILE, csv.encode())
    assert says in str(caught.value)
    assert caught.value.where == FILE.path


def _bomb() -> bytes:
    return zipped(FILE.csv_name, b"0" * (most_csv_bytes(FILE) + 1))


def _lying_bomb() -> bytes:
    """A zip that names a small size and unpacks to a large one."""
    body = bytearray(_bomb())
    at = body.index(b"PK\x01\x02")
    body[at + 24 : at + 28] = struct.pack("<I", 1_000)
    return bytes(body)


def _two_files() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(FILE.csv_name, CSV)
        archive.writestr("other.csv", CSV)
    return buffer.getvalue()


def _flipped() -> bytes:
    body = bytearray(zipped(FILE.csv_name, CSV))
    body[len(body) // 3] ^= 0xFF
    return bytes(body)


SOUND = zipped(FILE.csv_name, CSV)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no whole zip"),
        (b"<html>not found</html>", "no whole zip"),
        (SOUND[: len(SOUND) // 2], "no whole zip"),
        (SOUND[100:], "damaged|no whole zip|cut off"),
        (zipped("ETHUSDT-15m-2025-03-01.csv", CSV), "instead of BTCUSDT-15m-2025-03-01.csv"),
        (zipped("../BTCUSDT-15m-2025-03-01.csv", CSV), "instead of BTCUSDT-15m-2025-03-01.csv"),
        (_two_files(), "'other.csv' instead of"),
        (zipped(FILE.csv_name, CSV, zipfile.ZIP_LZMA), "packed in a way"),
        (_bomb(), "are the most"),
        (_lying_bomb(), "unpacks to more than the 1,000 bytes"),
        (_flipped(), "damaged|check sum|cut off|unpacks to more"),
    ],
    ids=["empty", "html", "cut off", "beheaded", "wrong name", "path", "two", "lzma", "bomb", "lying bomb", "flipped"],
)  # fmt: skip
def test_a_zip_that_cannot_be_trusted(body: bytes, says: str) -> None:
    with pytest.raises(ArchiveFileError, match=says) as caught:
        unzip(FILE, body)
    assert caught.value.remedy


def test_a_zip_of_a_version_to_come_is_refused() -> None:
    body = bytearray(zipped(FILE.csv_name, CSV))
    at = body.index(b"PK\x01\x02")
    body[at + 6] = 151  # the version needed to extract
    with pytest.raises(ArchiveFileError, match="no whole zip"):
        unzip(FILE, bytes(body))


def test_every_cut_off_zip_is_refused() -> None:
    for length in range(0, len(SOUND), 7):
        with pytest.raises(ArchiveFileError):
            unzip(FILE, SOUND[:length])


def test_a_stored_zip_is_read_too() -> None:
    assert unzip(FILE, zipped(FILE.csv_name, CSV, zipfile.ZIP_STORED)) == CSV.encode()


def test_a_month_of_seconds_has_room() -> None:
    month = monthly("spot", "BTCUSDT", "1s", MARCH)
    assert most_csv_bytes(month) > 2_678_400 * 170
