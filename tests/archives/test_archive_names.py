"""Paths, spans and publication of archive files."""

from __future__ import annotations

import datetime as dt

import pytest

from market.archives.names import ArchiveFile, daily, day_of, first_monday, monthly, months, parse_path

NEW_YEAR = 1_735_689_600_000  # 2025-01-01
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("file", "path"),
    [
        (
            monthly("spot", "BTCUSDT", "1m", NEW_YEAR + 40 * HOUR),
            "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01.zip",
        ),
        (
            daily("spot", "ETHUSDT", "1h", NEW_YEAR + 40 * HOUR),
            "data/spot/daily/klines/ETHUSDT/1h/ETHUSDT-1h-2025-01-02.zip",
        ),
        (
            monthly("futures/um", "1000SHIBUSDT", "5m", NEW_YEAR - 1),
            "data/futures/um/monthly/klines/1000SHIBUSDT/5m/1000SHIBUSDT-5m-2024-12.zip",
        ),
        (
            monthly("spot", "BTCUSDT", "1M", NEW_YEAR),
            "data/spot/monthly/klines/BTCUSDT/1mo/BTCUSDT-1mo-2025-01.zip",
        ),
    ],
)
def test_paths_are_those_of_the_archive(file: ArchiveFile, path: str) -> None:
    assert file.path == path
    assert parse_path(f"/{path}") == file


@pytest.mark.parametrize(
    "path",
    [
        "/data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2025-13.zip",
        "/data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01-01.zip",
        "/data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01.zip",
        "/data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-02-30.zip",
        "/data/spot/monthly/klines/BTCUSDT/1m/ETHUSDT-1m-2025-01.zip",
        "/data/spot/monthly/klines/BTCUSDT/7m/BTCUSDT-7m-2025-01.zip",
        "/data/spot/monthly/klines/BTCUSDT/1M/BTCUSDT-1M-2025-01.zip",
        "/data/spot/monthly/klines/../1m/..-1m-2025-01.zip",
        "/data/futures/cm/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01.zip",
        "/data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01.zip.CHECKSUM",
        "/data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01.zip\n",
    ],
)
def test_other_paths_name_no_file(path: str) -> None:
    assert parse_path(path) is None


def test_spans_and_publication() -> None:
    january = monthly("spot", "BTCUSDT", "1m", NEW_YEAR)
    assert (january.start_time, january.end_time) == (NEW_YEAR, 1_738_368_000_000)
    assert day_of(january.published_time) == dt.date(2025, 2, 3), "the first Monday of February"
    second = daily("spot", "BTCUSDT", "1m", NEW_YEAR + 30 * HOUR)
    assert (second.start_time, second.end_time) == (NEW_YEAR + 24 * HOUR, NEW_YEAR + 48 * HOUR)
    assert second.published_time == second.end_time


@pytest.mark.parametrize("month", range(1, 13))
def test_the_first_monday_is_the_first(month: int) -> None:
    found = first_monday(dt.date(2024, month, 17))
    assert found.weekday() == 0
    assert found.month == month
    assert found.day <= 7


def test_spot_files_hold_microseconds_from_2025() -> None:
    assert monthly("spot", "BTCUSDT", "1m", NEW_YEAR).microseconds
    assert not monthly("spot", "BTCUSDT", "1m", NEW_YEAR - 1).microseconds
    assert not monthly("futures/um", "BTCUSDT", "1m", NEW_YEAR).microseconds


def test_months_of_a_span() -> None:
    starts = [day_of(ms) for ms in months(NEW_YEAR - 1, NEW_YEAR + 32 * 24 * HOUR)]
    assert starts == [dt.date(2024, 12, 1), dt.date(2025, 1, 1), dt.date(2025, 2, 1)]
