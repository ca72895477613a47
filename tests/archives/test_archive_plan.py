"""Which files are wanted, from what the store lacks and what it knows of files."""

from __future__ import annotations

import polars as pl
import pytest

from market.archives.names import monthly
from market.archives.plan import WantedFile, plan_files, scope_of, without
from market.archives.rows import parse
from market.store import KlineStore
from market.store.archived import ArchivedFile

from .conftest import APRIL, DAY, JUNE, MARCH, MAY, month_csv

NOW = JUNE + 9 * DAY
QUARTER = 900_000


def plan(
    store: KlineStore, interval: str = "15m", start: int = MARCH, end: int | None = None, now: int = NOW
) -> list[WantedFile]:
    return plan_files(
        store,
        ["BTCUSDT"],
        scope_of("spot", interval, start, end, now),
        bars_per_request=lambda bars: 1_000,
        recheck_after_ms=DAY,
    )


def stems(wanted: list[WantedFile]) -> list[str]:
    return [one.file.stem.removeprefix("BTCUSDT-") for one in wanted]


def keep(store: KlineStore, start: int, end: int, *, without: tuple[int, ...] = ()) -> None:
    file = monthly("spot", "BTCUSDT", "15m", start)
    csv = month_csv(start, end, without=without)
    store.write("15m", parse(file, csv.encode()).good)


def known(start: int, end: int, rows: int, sha256: str = "ab", *, month: int | None = None) -> ArchivedFile:
    path = monthly("spot", "BTCUSDT", "15m", month or start).path
    return ArchivedFile(path, "BTCUSDT", "15m", start, end, sha256, rows, 1, NOW if sha256 else 0, NOW)


def test_months_that_spare_requests(store: KlineStore) -> None:
    assert stems(plan(store)) == ["15m-2025-03", "15m-2025-04", "15m-2025-05"]
    assert stems(plan(store, "30m")) == [], "1,488 bars are two requests, as is a file"
    assert stems(plan(store, "5m", start=MAY)) == ["5m-2025-05"]
    assert stems(plan(store, "1d")) == stems(plan(store, "1w")) == []


def test_a_part_of_a_month_pays_where_it_is_large(store: KlineStore) -> None:
    (one,) = plan(store, start=MAY + 5 * DAY)
    assert (one.start, one.end, one.reason) == (MAY + 5 * DAY, JUNE, "missing")
    assert plan(store, start=MAY + 12 * DAY) == []
    keep(store, MAY, MAY + 12 * DAY)
    assert plan(store, start=MAY) == [], "what is stored is not missing"


def test_a_month_is_not_expected_before_its_monday(store: KlineStore) -> None:
    monday = JUNE + DAY
    assert plan(store, start=MAY, now=monday + DAY // 4) == []
    assert stems(plan(store, start=MAY, now=monday + DAY // 2)) == ["15m-2025-05"]


def test_days_of_seconds(store: KlineStore) -> None:
    wanted = stems(plan(store, "1s", start=JUNE + 6 * DAY))
    assert wanted == ["1s-2025-06-07", "1s-2025-06-08"], "yesterday's is expected from noon on"
    assert len(plan(store, "1s", start=JUNE + 6 * DAY, now=NOW + DAY // 2)) == 3


def test_a_month_that_is_not_there_is_asked_for_by_day_where_that_pays(store: KlineStore) -> None:
    path = monthly("spot", "BTCUSDT", "1s", MAY).path
    store.write_archives([ArchivedFile(path, "BTCUSDT", "1s", MAY, JUNE, "", 0, 0, 0, NOW)])
    wanted = stems(plan(store, "1s", start=MAY, end=JUNE))
    assert wanted == [f"1s-2025-05-{day:02d}" for day in range(1, 32)]


def test_what_was_not_in_a_file_is_not_looked_for_there_again(store: KlineStore) -> None:
    """A symbol that was listed on the 25th: the file was taken, and REST could not be asked yet."""
    keep(store, MAY + 24 * DAY, JUNE)
    store.write_archives([known(MAY, JUNE, 7 * 96)])
    assert plan(store, start=MAY) == []
    assert stems(plan(store, start=APRIL)) == ["15m-2025-04"]


def test_bars_that_were_removed_are_taken_again(store: KlineStore) -> None:
    store.write_archives([known(MAY, JUNE, 2_976)])
    (one,) = plan(store, start=MAY)
    assert one.known is not None
    assert stems([one]) == ["15m-2025-05"]


def test_a_checksum_is_asked_for_again_only_while_its_bars_are_wanted(store: KlineStore) -> None:
    keep(store, MAY, JUNE)
    store.write_archives([known(MAY, JUNE, 2_976)])
    later = NOW + 30 * DAY
    (one,) = plan(store, start=MAY + DAY, end=JUNE, now=later)
    assert (one.reason, one.start, one.end) == ("changed", MAY, JUNE)
    assert plan(store, start=JUNE, end=JUNE + DAY, now=later) == []


def test_the_span_of_a_file_grows_with_what_is_wanted(store: KlineStore) -> None:
    keep(store, MAY + 28 * DAY, JUNE)
    store.write_archives([known(MAY + 28 * DAY, JUNE, 3 * 96)])
    (one,) = plan(store, start=MAY, end=MAY + 26 * DAY)
    assert (one.start, one.end) == (MAY, JUNE), "so that one span tells what was taken"


@pytest.mark.parametrize(
    ("hours", "files"), [(2, ["15m-2025-04-11"]), (30, ["15m-2025-04-11", "15m-2025-04-12"])]
)
def test_gaps_are_looked_up_by_day(store: KlineStore, hours: int, files: list[str]) -> None:
    gap(store, APRIL + 10 * DAY, APRIL + 10 * DAY + hours * 3_600_000)
    wanted = plan(store, start=APRIL, end=MAY)
    assert stems(wanted) == files
    assert {one.reason for one in wanted} == {"gap"}


def test_long_gaps_are_looked_up_by_month(store: KlineStore) -> None:
    gap(store, APRIL + 10 * DAY, APRIL + 20 * DAY)
    assert stems(plan(store, start=APRIL, end=MAY)) == ["15m-2025-04"]


def test_gaps_that_are_not_looked_up(store: KlineStore) -> None:
    start, end = APRIL + 10 * DAY, APRIL + 10 * DAY + QUARTER
    gap(store, start, end, cause="before_listing")
    assert plan(store, start=APRIL, end=MAY) == []
    gap(store, start, end, sources="archive,rest")
    assert plan(store, start=APRIL, end=MAY) == []
    gap(store, start, end)
    assert plan(store, start=APRIL, end=MAY, now=end + 2 * DAY - 1) == [], "too recent"


def test_a_gap_in_a_month_that_was_taken_is_not_looked_up(store: KlineStore) -> None:
    gap(store, APRIL + 10 * DAY, APRIL + 11 * DAY)
    store.write_archives([known(APRIL, MAY, 29 * 96)])
    assert plan(store, start=APRIL, end=MAY) == []


def gap(store: KlineStore, start: int, end: int, cause: str = "outage", sources: str = "rest") -> None:
    """An April of 15m bars with one gap."""
    keep(store, APRIL, start)
    keep(store, end, MAY)
    row = {"symbol": "BTCUSDT", "start_time": start, "end_time": end, "cause": cause, "checked_time": end}
    store.record_gaps("15m", pl.DataFrame([{**row, "sources": sources}]))


def test_without() -> None:
    assert without((0, 10), []) == [(0, 10)]
    assert without((0, 10), [(2, 3), (5, 7)]) == [(0, 2), (3, 5), (7, 10)]
    assert without((0, 10), [(-5, 2), (8, 20)]) == [(2, 8)]
    assert without((0, 10), [(-5, -1), (20, 30)]) == [(0, 10)]
    assert without((0, 10), [(0, 10)]) == []
