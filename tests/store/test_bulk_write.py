"""`write(bulk=True)`: straight into Parquet, with the very result of a plain write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from market.errors import MarketError
from market.klines import KLINE_COLUMNS, STORED_SCHEMA
from market.store import GAP_SCHEMA, KlineStore, WriteResult, bulk, cold

MakeBars = Callable[..., pl.DataFrame]
T0, MINUTE, HOUR, DAY = 1_700_006_400_000, 60_000, 3_600_000, 86_400_000


def _hot_rows(store: KlineStore) -> int:
    with store._database.read() as transaction:
        [(rows,)] = transaction.execute("SELECT count(*) FROM klines_hot")
    return int(rows)


def _files(home: Path) -> list[Path]:
    return sorted((home / "klines").glob("*/*.parquet"))


def test_history_goes_into_one_file_and_nothing_becomes_hot(
    store: KlineStore, home: Path, make_bars: MakeBars
) -> None:
    bars = make_bars(["B", "A"], count=3 * 1440)
    assert store.write("1m", bars.sample(fraction=1, shuffle=True, seed=1), bulk=True) == WriteResult(
        8640, 0, 0
    )
    assert _hot_rows(store) == 0
    [path] = _files(home)
    assert_frame_equal(store.scan("1m").collect(), bars, check_exact=True)
    assert store.spans()["rows"].to_list() == [4320, 4320]
    assert store.missing("A", "1m", T0 - MINUTE, T0 + 3 * DAY) == [(T0 - MINUTE, T0)]
    assert store.write("1m", bars, bulk=True, trusted=True) == WriteResult(0, 0, 8640)
    assert _files(home) == [path] and store.verify() == []
    assert pl.read_parquet(path)["kline_interval"].unique().to_list() == ["1m"]


def test_bulk_and_plain_writes_end_in_the_same_store(
    home: Path, tmp_path: Path, database_url: str | None, make_bars: MakeBars
) -> None:
    """Some days stored before, hot and cold, some bars revised, some absent, cut days at both ends."""
    bars = make_bars(["A", "B", "C"], "5m", start=T0 + 7 * 300_000, count=30 * 288)
    bars = bars.filter(pl.col("open_time") % 977 != 0).with_columns(taker_buy_base=-0.0, taker_buy_quote=-0.0)
    before = bars.filter(pl.col("open_time").is_between(T0 + 9 * DAY, T0 + 12 * DAY), symbol="B")
    revised = before.with_columns(close_time=None, quote_volume=None)
    ledger = pl.DataFrame([("A", T0, T0 + 8 * DAY, "outage", 1)], schema=GAP_SCHEMA, orient="row")
    results, states = [], []
    for name, in_bulk in (("plain", False), ("bulk", True)):
        (tmp_path / name).mkdir()
        with KlineStore.open(tmp_path / name, database_url if in_bulk else None) as store:
            store.write("5m", revised)
            store.roll(T0 + 11 * DAY)
            store.record_gaps("5m", ledger)
            results.append(store.write("5m", bars, bulk=in_bulk))
            states.append((store.scan("5m").collect(), store.spans(), store.gaps()))
            assert store.verify() == []
            if in_bulk:
                assert 0 < _hot_rows(store) < 0.1 * bars.height
                store.roll(T0 + 40 * DAY)
                assert_frame_equal(store.scan("5m").collect(), states[0][0], check_exact=True)
                assert store.verify() == []
    assert results[0] == results[1] and results[0].rows_updated == before.height
    for plain, filed in zip(*states, strict=True):
        assert_frame_equal(plain, filed, check_exact=True)
    assert (states[1][0]["taker_buy_base"].to_numpy().view("<i8") >= 0).all(), "no -0.0"


@pytest.mark.parametrize("interval", ["1d", "1w", "1h"])
def test_long_intervals_and_batches_of_one_day_each(
    store: KlineStore, make_bars: MakeBars, interval: str
) -> None:
    start = 1_704_067_200_000  # Monday 2024-01-01
    symbols = [f"S{n:03d}" for n in range(60)]
    bars = make_bars(symbols, interval, start=start, count=72)
    assert store.write(interval, bars, bulk=True).rows_inserted == bars.height
    assert _hot_rows(store) == 0 and store.verify() == []
    assert_frame_equal(store.scan(interval).collect(), bars, check_exact=True)


def test_batches_that_cut_days_meet(store: KlineStore, make_bars: MakeBars) -> None:
    bars = make_bars(["A"], count=20 * 1440)
    for at in range(0, bars.height, 10_000):
        store.write("1m", bars[at : at + 10_000], bulk=True)
    assert 0 < _hot_rows(store) <= 2 * 1440, "the days that batches have cut"
    assert_frame_equal(store.scan("1m").collect(), bars, check_exact=True)
    store.roll(T0 + 20 * DAY)
    assert _hot_rows(store) == 0 and store.verify() == []
    assert_frame_equal(store.scan("1m").collect(), bars, check_exact=True)


def test_few_rows_get_no_file(store: KlineStore, home: Path, make_bars: MakeBars) -> None:
    store.write("1m", make_bars(["A"], count=1440), bulk=True)
    assert _hot_rows(store) == 1440 and _files(home) == []


def test_a_frame_with_a_wrong_row_is_refused_whole(
    store: KlineStore, home: Path, make_bars: MakeBars
) -> None:
    bars = make_bars(["A"], count=5 * 1440)
    with pytest.raises(MarketError, match="negative"):
        store.write("1m", bars.with_columns(volume=pl.col("volume") * -1), bulk=True)
    assert store.scan("1m").collect().is_empty() and _files(home) == []


@pytest.mark.parametrize("times", [1, 4])
def test_days_that_another_writer_fills_meanwhile_are_not_doubled(
    store: KlineStore, make_bars: MakeBars, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """The days change after the file was written, each time until the writer locks the others out."""
    bars = make_bars(["A"], count=8 * 1440)
    publish, rounds = bulk._publish, []

    def publish_while_others_write(*args: object) -> object:
        made = publish(*args)  # type: ignore[arg-type]
        rounds.append(made)
        if len(rounds) <= min(times, 3):
            day = bars.filter((pl.col("open_time") - T0) // DAY == len(rounds)).head(10)
            writer = threading.Thread(target=store.write, args=("1m", day))
            writer.start()
            writer.join()
        return made

    monkeypatch.setattr(bulk, "_publish", publish_while_others_write)
    result = store.write("1m", bars, bulk=True)
    stored = 10 * min(times, 3)
    assert result == WriteResult(bars.height - stored, 0, stored)
    assert len(rounds) == min(times, 3) + 1
    assert_frame_equal(store.scan("1m").collect(), bars, check_exact=True)
    assert store.verify() == []


def test_symbols_have_row_groups_of_their_own_and_large_frames_several_files(
    home: Path, make_bars: MakeBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold, "ROW_GROUP", 3_000)
    monkeypatch.setattr(bulk, "FILE_ROWS", 7_000)
    bars = make_bars(["A", "B", "C", "D"], count=2 * 1440)
    with KlineStore.open(home) as store:
        store.write("1m", bars, bulk=True)
        assert store.verify() == [] and store.scan("1m").collect().equals(bars)
        assert len(_files(home)) == 2
        for path in _files(home):
            file = pq.ParquetFile(path).metadata
            groups = [file.row_group(at) for at in range(file.num_row_groups)]
            assert all(group.num_rows <= 3_000 for group in groups)
            columns = [groups[0].column(at) for at in range(file.num_columns)]
            assert {column.compression for column in columns} == {"ZSTD"}
            dictionaries = [column.path_in_schema for column in columns if column.has_dictionary_page]
            assert dictionaries == ["symbol", "kline_interval"]


def test_recorded_bars_take_at_most_43_bytes_each(home: Path, shared_data: Path) -> None:
    """The two most liquid pairs there are, whose digits are all in use: 104 bytes a row as numbers."""
    folder = shared_data / "klines" / "binance_spot_12col"
    frames = [
        pl.read_parquet(path).select(pl.lit(path.stem.split("_")[0]).alias("symbol"), *KLINE_COLUMNS)
        for path in sorted(folder.glob("*.parquet"))
    ]
    recorded = pl.concat(frames).cast(dict(STORED_SCHEMA)).sort("symbol", "open_time")
    with KlineStore.open(home) as store:
        store.write("1h", recorded, bulk=True)
        store.roll(int(recorded["open_time"].max()) + DAY)  # type: ignore[arg-type]
        assert_frame_equal(store.scan("1h").collect(), recorded, check_exact=True)
        raw = store.scan("1h").collect().select(pl.selectors.float()).to_numpy()
        assert np.array_equal(raw.view("<i8"), recorded.select(pl.selectors.float()).to_numpy().view("<i8"))
        size = max(path.stat().st_size for path in _files(home)) / recorded.height
    assert size < 43
