"""The roll, late corrections, and what becomes of files that are no part of the store."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from market.errors import MarketError
from market.store import KlineStore, RollReport, WriteResult
from market.store import roll as rolling
from market.store.cold import sha256_of
from market.store.schema import SCHEMA_VERSION

MakeBars = Callable[..., pl.DataFrame]
T0, MINUTE, DAY = 1_700_006_400_000, 60_000, 86_400_000


def _files(home: Path) -> list[Path]:
    return sorted((home / "klines").glob("*/*.parquet"))


def test_whole_days_roll_and_part_of_a_day_stays(store: KlineStore, home: Path, make_bars: MakeBars) -> None:
    hourly, minutes = make_bars(["B", "A"], "1h", count=60), make_bars(["A"], "1m", count=30)
    store.write("1h", hourly)
    store.write("1m", minutes)
    report = store.roll(T0 + 2 * DAY + 1)
    assert (report.files, report.rows) == (3, 2 * 48 + 30)
    assert report.bytes == sum(path.stat().st_size for path in _files(home))
    assert [path.parent.name + "/" + path.name[:10] for path in _files(home)] == [
        "1h/2023-11-15",
        "1h/2023-11-16",
        "1m/2023-11-15",
    ]
    assert_frame_equal(store.scan("1h").collect(), hourly, check_exact=True)
    assert store.roll(T0 + 2 * DAY + 1) == RollReport(0, 0, 0)
    assert store.verify() == []


def test_a_file_is_sorted_compressed_and_has_statistics(
    store: KlineStore, home: Path, make_bars: MakeBars
) -> None:
    store.write("1m", make_bars(["C", "A", "B"], count=100))
    store.roll(T0 + DAY)
    (path,) = _files(home)
    assert path.stem.split("-")[-1] == sha256_of(path)[:16]
    frame = pl.read_parquet(path)
    assert frame.columns[:3] == ["symbol", "kline_interval", "open_time"]
    assert_frame_equal(frame, frame.sort("symbol", "open_time"))
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert all(column.compression == "ZSTD" and column.is_stats_set for column in columns.values())
    assert columns["open_time"].statistics.min == T0
    assert pq.ParquetFile(path).metadata.metadata[b"klinecast.schema_version"] == str(SCHEMA_VERSION).encode()


def test_a_late_correction_wins_and_the_next_roll_takes_it_in(
    store: KlineStore, home: Path, make_bars: MakeBars
) -> None:
    bars = make_bars(["A", "B"], count=50)
    early = bars.filter(~((pl.col("symbol") == "B") & (pl.col("open_time") == T0 + 7 * MINUTE)))
    store.write("1m", early)
    store.roll(T0 + DAY)
    (old,) = _files(home)
    corrected = bars.with_columns(
        volume=pl.when((pl.col("symbol") == "A") & (pl.col("open_time") == T0)).then(99.0).otherwise("volume")
    )
    assert store.write("1m", corrected) == WriteResult(1, 1, 98)
    for rolled in (False, True):
        if rolled:
            assert (report := store.roll(T0 + DAY)).files == 1 and report.rows == 2
        assert_frame_equal(store.scan("1m").collect(), corrected, check_exact=True)
        assert store.panel("1m", ["A"]).columns["volume"][0, 0] == 99.0
        assert store.panel("1m", ["B"]).columns["close"][7, 0] == bars.filter(symbol="B")["close"][7]
        with store.connect_duckdb() as connection:
            assert connection.execute("SELECT count(*), max(volume) FROM klines").fetchall() == [(100, 99.0)]
        assert store.verify() == []
        assert store.write("1m", corrected) == WriteResult(0, 0, 100)
    assert old.is_file(), "a reader may still be at it"


def test_readers_of_a_superseded_file_finish_and_then_it_goes(
    home: Path, database_url: str | None, make_bars: MakeBars
) -> None:
    bars = make_bars(["A"], count=50)
    with KlineStore.open(home, database_url) as store:
        store.write("1m", bars)
        store.roll(T0 + DAY)
        before = store.scan("1m")
        store.write("1m", bars.with_columns(volume=99.0))
        store.roll(T0 + DAY)
        assert len(_files(home)) == 2
        assert_frame_equal(before.collect(), bars)
    with KlineStore.open(home, database_url, grace_ms=-1) as store:
        assert len(_files(home)) == 1
        assert store.scan("1m").collect()["volume"].unique().to_list() == [99.0]
        store.write("1m", bars)  # back to the first content: the same hash, the same name as the removed file
        store.roll(T0 + DAY)
        assert_frame_equal(store.scan("1m").collect(), bars)
        assert store.verify() == []


def test_orphans_go_after_the_grace_period_only(
    home: Path, database_url: str | None, make_bars: MakeBars
) -> None:
    with KlineStore.open(home, database_url) as store:
        store.write("1m", make_bars(["A"]))
        store.roll(T0 + DAY)
    (registered,) = _files(home)
    young = registered.with_name("2023-11-15-0000000000000000.parquet")
    old, temporary = (
        registered.with_name("2023-11-15-1111111111111111.parquet"),
        registered.with_name(".7-1-ab.tmp"),
    )
    for path in (young, old, temporary):
        path.write_bytes(b"left by a dead process")
    long_ago = time.time() - 7_200
    for path in (old, temporary, registered):
        os.utime(path, (long_ago, long_ago))
    with KlineStore.open(home, database_url) as store:
        assert _files(home) == sorted([registered, young]) and not temporary.exists()
        assert store.verify() == []


def test_a_writer_during_the_roll_loses_nothing(
    store: KlineStore, make_bars: MakeBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day changes after its file was written, each time until the roll locks writers out."""
    bars = make_bars(["A"], count=30)
    store.write("1m", bars.head(20))
    publish, rounds = rolling._publish, []

    def publish_then_write(*args: object, **kwargs: object) -> object:
        file = publish(*args, **kwargs)  # type: ignore[arg-type]
        rounds.append(file)
        if len(rounds) <= 3:
            writer = threading.Thread(target=store.write, args=("1m", bars[20 : 20 + len(rounds)]))
            writer.start()
            writer.join()
        return file

    monkeypatch.setattr(rolling, "_publish", publish_then_write)
    report = store.roll(T0 + DAY)
    assert len(rounds) == 4 and report.rows == 23
    assert_frame_equal(store.scan("1m").collect(), bars.head(23))
    assert store.verify() == []


def test_two_rolls_of_the_same_day_at_once(store: KlineStore, make_bars: MakeBars) -> None:
    bars = make_bars(["A", "B", "C"], count=1440)
    store.write("1m", bars)
    reports: list[RollReport] = []
    threads = [threading.Thread(target=lambda: reports.append(store.roll(T0 + DAY))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.rows for report in reports) == bars.height
    assert_frame_equal(store.scan("1m").collect(), bars)
    assert store.verify() == []


def test_a_file_that_is_gone_or_spoiled_is_named(home: Path, make_bars: MakeBars) -> None:
    with KlineStore.open(home) as store:
        store.write("1m", make_bars(["A"]))
        store.roll(T0 + DAY)
        (path,) = _files(home)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"?")
        assert "SHA-256" in store.verify()[0]
        path.unlink()
        with pytest.raises(MarketError, match="not there") as caught:
            store.scan("1m")
        assert str(path) in caught.value.where
        assert "not there" in store.verify()[0]
        path.write_bytes(content)
        assert store.verify() == []


def test_files_of_another_database_are_not_touched(
    home: Path, make_bars: MakeBars, postgres_url: str
) -> None:
    with KlineStore.open(home) as store:
        store.write("1m", make_bars(["A"]))
        store.roll(T0 + DAY)
    with pytest.raises(MarketError, match="another database"):
        KlineStore.open(home, postgres_url, grace_ms=-1)
    assert len(_files(home)) == 1
    mark = home / "klines" / "store.json"
    assert set(json.loads(mark.read_text())) == {"store_id", "schema_version"}
    mark.unlink()
    with pytest.raises(MarketError, match="another database"):
        KlineStore.open(home, postgres_url, grace_ms=-1)
    assert len(_files(home)) == 1


def test_files_are_open_to_duckdb_and_polars(store: KlineStore, home: Path, make_bars: MakeBars) -> None:
    bars = make_bars(["A", "B"], count=20)
    store.write("1m", bars)
    store.write("1h", make_bars(["A"], "1h", count=24))
    store.roll(T0 + DAY)
    query = f"SELECT kline_interval, count(*) FROM '{home}/klines/*/*.parquet' GROUP BY ALL ORDER BY ALL"
    assert duckdb.sql(query).fetchall() == [("1h", 24), ("1m", 40)]
    assert_frame_equal(pl.read_parquet(home / "klines" / "1m" / "*.parquet").drop("kline_interval"), bars)
