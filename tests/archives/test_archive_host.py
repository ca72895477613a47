"""The built-in exchange as an archive host: the same bars as by REST, in the archives' own form."""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
import zipfile

import orjson
import pytest

from market.archives.names import ArchiveFile, ArchiveMarket, daily, monthly
from market.archives.rows import HEADER, parse
from market.archives.unzip import unzip
from market.exchange.launch import RunningExchange, start_exchange

from .conftest import APRIL, DAY, JUNE, MARCH

DECEMBER = 1_733_011_200_000  # 2024-12-01


def get(running: RunningExchange, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"{running.url}/{path}", timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def csv_of(running: RunningExchange, file: ArchiveFile) -> str:
    with zipfile.ZipFile(io.BytesIO(get(running, file.path)[1])) as archive:
        assert archive.namelist() == [file.csv_name]
        return archive.read(file.csv_name).decode()


@pytest.mark.parametrize("market", ["spot", "futures/um"])
@pytest.mark.parametrize("start", [DECEMBER, MARCH])
def test_rows_are_those_of_rest(served: RunningExchange, market: ArchiveMarket, start: int) -> None:
    file = daily(market, "ETHUSDT", "5m", start)
    lines = csv_of(served, file).splitlines()
    if market == "futures/um":
        assert lines.pop(0) == HEADER
    query = f"symbol=ETHUSDT&interval=5m&startTime={start}&endTime={start + DAY - 1}&limit=1000"
    rows = orjson.loads(get(served, f"api/v3/klines?{query}")[1])
    micro = market == "spot" and start == MARCH
    assert len(lines) == len(rows) > 280
    for line, row in zip(lines, rows, strict=True):
        fields = line.split(",")
        assert fields[1:6] + fields[7:] == [str(value) for value in row[1:6] + row[7:]]
        expected = (row[0] * 1_000, row[6] * 1_000 + 999) if micro else (row[0], row[6])
        assert (int(fields[0]), int(fields[6])) == expected


def test_checksum_and_counters(served: RunningExchange) -> None:
    file = monthly("spot", "BTCUSDT", "1h", APRIL)
    status, body = get(served, file.path)
    assert status == 200
    digest, name = get(served, f"{file.path}.CHECKSUM")[1].decode().split()
    assert (digest, name) == (hashlib.sha256(body).hexdigest(), file.zip_name)
    routes = served.info()["served"]["routes"]
    assert routes["/data/"]["requests"] == 2
    assert routes["/data/"]["weight"] == 0
    assert routes["/data/"]["rows"] == parse(file, unzip(file, body)).rows


def test_two_exchanges_make_the_same_bytes(served: RunningExchange) -> None:
    file = monthly("spot", "ETHUSDT", "1h", APRIL)
    with start_exchange(symbols=2, seed=5, now=JUNE + 20 * DAY, speed=0) as other:
        assert get(other, file.path) == get(served, file.path)


def test_what_is_not_there_has_a_body_like_s3s(served: RunningExchange) -> None:
    for path in ("data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2026-01.zip", "data/x<y>", "data/"):
        status, body = get(served, path)
        assert status == 404
        assert b"<Code>NoSuchKey</Code>" in body
        assert b"<y>" not in body


def test_archive_faults(served: RunningExchange) -> None:
    file = daily("spot", "BTCUSDT", "1h", APRIL)
    sound = get(served, file.path)[1]
    checksum = get(served, f"{file.path}.CHECKSUM")[1]
    for fault in ("wrong_checksum", "truncated_zip", "rewritten"):
        served.add_fault(archive=fault, symbol="BTCUSDT", interval="1h", count=2)
        told, body = get(served, f"{file.path}.CHECKSUM")[1], get(served, file.path)[1]
        assert (told != checksum) and (body != sound) == (fault != "wrong_checksum")
        right = told.startswith(hashlib.sha256(body).hexdigest().encode())
        assert right == (fault != "wrong_checksum")
    assert get(served, file.path)[1] == sound, "the faults are spent"


def test_an_unknown_archive_fault_is_refused(served: RunningExchange) -> None:
    with pytest.raises(Exception, match="unknown archive fault"):
        served.add_fault(archive="eaten")
