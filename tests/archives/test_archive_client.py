"""The client hands out a file only once its checksum has been verified, and says why where it cannot."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from market.archives.client import ArchiveClient
from market.archives.errors import ArchiveFileError, ArchiveHostError, NotInArchiveError
from market.archives.names import daily, monthly
from market.client_errors import NotAnExchangeError, RetriesExhaustedError, UnreachableError
from market.errors import MarketError
from market.exchange.launch import RunningExchange

from .conftest import APRIL, DAY, JUNE, MARCH, FileHost, month_csv, zipped

T = TypeVar("T")
FILE = monthly("spot", "BTCUSDT", "15m", MARCH)
HOURS = monthly("spot", "BTCUSDT", "1h", MARCH)


def ask(url: str, question: Callable[[ArchiveClient], Awaitable[T]], **options: int) -> T:
    async def work() -> T:
        async with ArchiveClient(url, **options) as archives:
            return await question(archives)

    return asyncio.run(work())


def test_a_file_with_its_checksum(host: FileHost) -> None:
    body = zipped(FILE.csv_name, month_csv(MARCH, MARCH + DAY))
    host.put_zip(FILE, body)
    fetched = ask(host.url, lambda archives: archives.fetch(FILE))
    assert (fetched.body, fetched.sha256) == (body, hashlib.sha256(body).hexdigest())


def test_a_wrong_checksum_is_asked_for_once_more_and_then_refused(host: FileHost) -> None:
    host.put(FILE, month_csv(MARCH, MARCH + DAY), checksum="0" * 64)
    with pytest.raises(ArchiveFileError, match="does not have the checksum") as caught:
        ask(host.url, lambda archives: archives.fetch(FILE))
    assert FILE.path in caught.value.where
    assert host.asked == {f"{FILE.zip_name}.CHECKSUM": 2, FILE.zip_name: 1}


def test_a_file_rewritten_between_two_answers_is_taken(host: FileHost) -> None:
    host.put(FILE, month_csv(MARCH, MARCH + DAY))

    async def question(archives: ArchiveClient) -> str:
        before = await archives.checksum(FILE)
        host.put(FILE, month_csv(MARCH, MARCH + 2 * DAY))
        fetched = await archives.fetch(FILE, before)
        assert fetched.sha256 != before
        return fetched.sha256

    assert ask(host.url, question) == ask(host.url, lambda archives: archives.checksum(FILE))


@pytest.mark.parametrize(
    "text",
    ["", "not a checksum\n", f"{'a' * 64}  BTCUSDT-15m-2025-04.zip\n", f"{'g' * 64}  {FILE.zip_name}\n", "a" * 64],
)  # fmt: skip
def test_a_checksum_file_of_something_else(host: FileHost, text: str) -> None:
    host.put(FILE, "")
    (host.folder / f"{FILE.path}.CHECKSUM").write_text(text)
    with pytest.raises(ArchiveFileError, match="not a line"):
        ask(host.url, lambda archives: archives.checksum(FILE))


def test_what_is_not_there(host: FileHost) -> None:
    with pytest.raises(NotInArchiveError):
        ask(host.url, lambda archives: archives.fetch(FILE))
    assert host.asked.total() == 1, "a 404 is an answer: it is not tried again"


def test_nobody_listens() -> None:
    with pytest.raises(UnreachableError, match="archive host"):
        ask("http://127.0.0.1:9", lambda archives: archives.checksum(FILE), attempts=2)


@pytest.mark.parametrize("url", ["data.binance.vision", "http://", "https://host/data", "ftp://host"])
def test_what_is_no_base_url(url: str) -> None:
    with pytest.raises(MarketError, match="base URL of an archive"):
        ArchiveClient(url)


def test_faults_on_the_way_are_retried(served: RunningExchange) -> None:
    for fault in ({"status": 503}, {"reset": True}, {"truncate": True}):
        served.add_fault(path="/data/", **fault)

    fetched = ask(served.url, lambda archives: archives.fetch(HOURS))
    assert hashlib.sha256(fetched.body).hexdigest() == fetched.sha256
    assert served.info()["served"]["routes"]["/data/"]["requests"] == 5, "two answers, three faults"


def test_retries_have_an_end(served: RunningExchange) -> None:
    served.add_fault(path="/data/", status=500, count=None)
    with pytest.raises(RetriesExhaustedError, match="after 2 attempts: HTTP 500"):
        ask(served.url, lambda archives: archives.fetch(HOURS), attempts=2)
    assert served.info()["served"]["routes"]["/data/"]["requests"] == 2


@pytest.mark.parametrize("status", [302, 403, 451])
def test_a_host_that_refuses(served: RunningExchange, status: int) -> None:
    served.add_fault(path="/data/", status=status)
    with pytest.raises(ArchiveHostError, match=f"HTTP {status}") as caught:
        ask(served.url, lambda archives: archives.fetch(HOURS))
    assert caught.value.host_wide


def test_no_more_is_read_than_a_file_can_have(host: FileHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.archives.client.MOST_ZIP_BYTES", 100)
    host.put_zip(FILE, b"x" * 101)
    with pytest.raises(NotAnExchangeError, match="longer than 100 bytes"):
        ask(host.url, lambda archives: archives.fetch(FILE, "0" * 64))


def test_the_exchange_publishes_what_is_over(served: RunningExchange) -> None:
    may, day = monthly("spot", "BTCUSDT", "1h", JUNE - 1), daily("spot", "BTCUSDT", "1h", JUNE + 8 * DAY)
    june, today = monthly("spot", "BTCUSDT", "1h", JUNE), daily("spot", "BTCUSDT", "1h", JUNE + 9 * DAY)
    for file in (may, day):
        assert ask(served.url, lambda archives, file=file: archives.fetch(file)).file == file
    for file in (
        june,
        today,
        monthly("spot", "NOSUCH", "1h", APRIL),
        monthly("spot", "BTCUSDT", "1s", APRIL),
    ):
        with pytest.raises(NotInArchiveError):
            ask(served.url, lambda archives, file=file: archives.checksum(file))
