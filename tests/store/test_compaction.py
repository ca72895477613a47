"""Compaction: fewer, larger files with the same bars, beside readers, writers and rolls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market.store import CompactionReport, KlineStore, compaction

MakeBars = Callable[..., pl.DataFrame]
HOUR, DAY = 3_600_000, 86_400_000


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000


NOVEMBER, DECEMBER, JANUARY = _ms("2023-11-01"), _ms("2023-12-01"), _ms("2024-01-01")


def _files(home: Path) -> list[Path]:
    return sorted((home / "klines").glob("*/*.parquet"))


@pytest.fixture
def bars(make_bars: MakeBars) -> pl.DataFrame:
    """Hourly bars of three symbols from 2023-11-21 to 2024-01-09."""
    return make_bars(["B", "A", "C"], "1h", start=_ms("2023-11-21"), count=50 * 24)


def test_past_months_become_one_file_and_the_current_month_stays(
    home: Path, database_url: str | None, bars: pl.DataFrame
) -> None:
    with KlineStore.open(home, database_url) as store:
        store.write("1h", bars)
        store.roll(_ms("2024-01-08"))
        assert len(_files(home)) == 48
        before = store.scan("1h")
        report = store.compact(_ms("2024-01-08"))
        assert (report.files_before, report.files_after, report.rows) == (41, 1, 41 * 24 * 3)
        assert_frame_equal(store.scan("1h").collect(), bars, check_exact=True)
        assert_frame_equal(before.collect(), bars), "a reader that began before"
        assert store.verify() == []
        assert store.compact(_ms("2024-01-08")) == CompactionReport(0, 0, 0, 0)
        assert store.panel("1h", ["A"], bars=100, columns=["close"]).columns["close"].shape == (100, 1)
        with store.connect_duckdb() as connection:
            assert connection.execute("SELECT count(*) FROM klines").fetchall() == [(bars.height,)]
    with KlineStore.open(home, database_url, grace_ms=-1) as store:
        names = [path.name[:10] for path in _files(home)]
        assert names == ["2023-11-21", *(f"2024-01-0{day}" for day in range(1, 8))]
        assert_frame_equal(store.scan("1h").collect(), bars, check_exact=True)


def test_an_interval_with_few_files_is_left_in_peace(store: KlineStore, bars: pl.DataFrame) -> None:
    store.write("1h", bars)
    store.roll(JANUARY)
    assert store.compact(JANUARY, least_files=42).files_before == 0
    assert store.compact(JANUARY, least_files=41).files_before == 41


def test_files_hold_ranges_of_symbols_and_a_large_symbol_is_cut_by_months(
    home: Path, bars: pl.DataFrame, make_bars: MakeBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    thin = make_bars(["D", "E"], "1h", start=DECEMBER, count=100)
    with KlineStore.open(home, grace_ms=-1) as store:
        store.write("1h", pl.concat([bars, thin]))
        store.roll(_ms("2024-01-10"))
        monkeypatch.setattr(compaction.compact, "__kwdefaults__", {"file_rows": 1_000})
        assert store.compact(_ms("2024-02-01")).files_after == 7
        assert_frame_equal(store.scan("1h").collect(), pl.concat([bars, thin]), check_exact=True)
        frames = [pl.read_parquet(path, columns=["symbol", "open_time"]) for path in _files(home)]
        held = sorted(("".join(frame["symbol"].unique().sort()), frame.height) for frame in frames)
        november_and_december, january = 10 * 24 + 31 * 24, 9 * 24
        each = [january, november_and_december]
        assert held == [(name, rows) for name in "ABC" for rows in each] + [("DE", 200)]
        assert store.verify() == []


def test_late_bars_of_a_compacted_month(store: KlineStore, home: Path, bars: pl.DataFrame) -> None:
    absent = (pl.col("symbol") == "B") & pl.col("open_time").is_between(DECEMBER, DECEMBER + 5 * HOUR)
    store.write("1h", bars.filter(~absent))
    store.roll(JANUARY)
    store.compact(JANUARY)
    revised = bars.with_columns(
        volume=pl.when((pl.col("symbol") == "C") & (pl.col("open_time") == DECEMBER + DAY))
        .then(77.0)
        .otherwise("volume")
    )
    assert store.write("1h", revised).rows_inserted == 6
    assert_frame_equal(store.scan("1h").collect(), revised, check_exact=True)
    report = store.roll(JANUARY)
    assert (report.files, report.rows) == (1, 7), "one file holds both days, it is written once"
    assert_frame_equal(store.scan("1h").collect(), revised, check_exact=True)
    assert store.verify() == []


def test_files_of_bulk_writes_that_span_months(store: KlineStore, home: Path, make_bars: MakeBars) -> None:
    year = make_bars([f"S{n}" for n in range(8)], "1h", start=_ms("2023-01-01"), count=365 * 24)
    for (_,), rows in year.group_by("symbol"):
        store.write("1h", rows, bulk=True)
    assert len(_files(home)) == 8
    assert store.compact(JANUARY).files_before == 8
    assert_frame_equal(store.scan("1h").collect(), year, check_exact=True)
    assert_frame_equal(
        store.scan("1h", ["S3"], DECEMBER, DECEMBER + DAY).collect(),
        year.filter(pl.col("open_time").is_between(DECEMBER, DECEMBER + DAY, closed="left"), symbol="S3"),
    )
    assert store.verify() == []


def test_a_roll_that_comes_first_makes_the_compaction_begin_again(
    store: KlineStore, bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("1h", bars)
    store.roll(JANUARY)
    revised = bars.with_columns(
        volume=pl.when(pl.col("open_time") == DECEMBER).then(77.0).otherwise("volume")
    )
    sizes, rounds = compaction._sizes, []

    def sizes_then_roll(*args: object) -> pl.DataFrame:
        rounds.append(1)
        if len(rounds) == 1:

            def correct() -> None:
                store.write("1h", revised)
                store.roll(JANUARY)

            other = threading.Thread(target=correct)
            other.start()
            other.join()
        return sizes(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(compaction, "_sizes", sizes_then_roll)
    assert store.compact(JANUARY).files_before == 41 and len(rounds) == 2
    assert_frame_equal(store.scan("1h").collect(), revised, check_exact=True)
    assert store.verify() == []
