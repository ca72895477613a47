"""A whole store with its cold files in a bucket, and what becomes of it when the server goes away."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets.platform import Platform
from assets.settings import current_settings
from market.errors import MarketError
from market.store import KlineStore, objects_s3
from market.store.duck_files import SnapshotFiles
from market.store.manifest import ColdFile
from market.store.objects import ObjectStore, open_objects
from tests.store.s3_server import S3Server

MakeBars = Callable[..., pl.DataFrame]
T0, MINUTE, DAY = 1_700_006_400_000, 60_000, 86_400_000


@pytest.fixture
def bucket(s3_url: str) -> ObjectStore:
    return open_objects(s3_url)


@pytest.fixture
def store(home: Path, s3_url: str) -> Iterator[KlineStore]:
    with KlineStore.open(home, objects_url=s3_url) as opened:
        yield opened


def _files(bucket: ObjectStore) -> list[str]:
    return [item.name for item in bucket.list() if item.name.endswith(".parquet")]


def _check(store: KlineStore, interval: str, expected: pl.DataFrame) -> None:
    """Compare every way of reading with what must be stored."""
    assert_frame_equal(store.scan(interval).collect(), expected, check_exact=True)
    symbols = expected["symbol"].unique().sort().to_list()
    panel = store.panel(interval, symbols, columns=("close",))
    wide = expected.pivot("symbol", index="open_time", values="close").sort("open_time").select(symbols)
    assert panel.columns["close"].tobytes() == wide.to_numpy(order="c").tobytes()
    with store.connect_duckdb() as connection:
        chosen = f"FROM klines WHERE kline_interval = '{interval}' ORDER BY symbol, open_time"
        found = connection.sql(f"SELECT * EXCLUDE kline_interval {chosen}").pl()
        assert_frame_equal(found.select(expected.columns), expected, check_exact=True)
    assert store.verify() == []


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_store_lives_in_a_bucket(
    request: pytest.FixtureRequest,
    home: Path,
    s3_url: str,
    bucket: ObjectStore,
    make_bars: MakeBars,
    database: str,
) -> None:
    url = request.getfixturevalue("postgres_url") if database == "postgres" else None
    bars = make_bars(["A", "B", "C", "D"], count=2 * 1_440)
    first, second = (bars.filter(pl.col("open_time") // DAY == T0 // DAY + day) for day in (0, 1))
    with KlineStore.open(home, url, objects_url=s3_url, grace_ms=-1) as store:
        store.write("1m", first)
        assert store.roll(T0 + DAY).rows == first.height
        _check(store, "1m", first)
        assert store.write("1m", second, bulk=True).rows_inserted == second.height
        assert len(_files(bucket)) == 2 and not (home / "klines").exists()
        _check(store, "1m", bars)

        corrected = bars.with_columns(
            volume=pl.when((pl.col("symbol") == "B") & (pl.col("open_time") == T0))
            .then(99.0)
            .otherwise("volume")
        )
        assert store.write("1m", corrected).rows_updated == 1
        _check(store, "1m", corrected)
        before = set(_files(bucket))
        assert store.roll(T0 + DAY).rows == 1
        assert len(_files(bucket)) == 2 and set(_files(bucket)) != before, "the superseded file is gone"
        _check(store, "1m", corrected)

        assert store.compact(T0 + 40 * DAY).rows == bars.height
        assert len(_files(bucket)) == 1
        _check(store, "1m", corrected)

        assert store.remove("1m", ["C"]).rows == 2 * 1_440
        _check(store, "1m", corrected.filter(pl.col("symbol") != "C"))
    with KlineStore.open(home, url, objects_url=s3_url, grace_ms=-1) as store:
        _check(store, "1m", corrected.filter(pl.col("symbol") != "C"))
        assert len(_files(bucket)) == 1


def test_readers_of_a_superseded_object_finish_and_orphans_go(
    home: Path, s3_url: str, bucket: ObjectStore, make_bars: MakeBars
) -> None:
    bars = make_bars(["A"], count=50)
    with KlineStore.open(home, objects_url=s3_url) as store:
        store.write("1m", bars)
        store.roll(T0 + DAY)
        bucket.put("1m/2023-11-15-0000000000000000.parquet", b"left by a dead process")
        bucket.put("notes.txt", b"not ours")
        before = store.scan("1m")
        store.write("1m", bars.with_columns(volume=99.0))
        store.roll(T0 + DAY)
        assert len(_files(bucket)) == 3
        assert_frame_equal(before.collect(), bars)
    time.sleep(1.1)  # the server dates objects by the second
    with KlineStore.open(home, objects_url=s3_url, grace_ms=0) as store:
        assert len(_files(bucket)) == 1 and bucket.exists("notes.txt")
        assert store.scan("1m").collect()["volume"].unique().to_list() == [99.0]


def test_two_stores_never_share_a_prefix(
    home: Path, tmp_path: Path, s3_url: str, bucket: ObjectStore, make_bars: MakeBars
) -> None:
    with KlineStore.open(home, objects_url=s3_url) as store:
        store.write("1m", make_bars(["A"]))
        store.roll(T0 + DAY)
    assert "store_id" in json.loads(bucket.get("store.json"))
    new, other = tmp_path / "new", tmp_path / "other"
    KlineStore.open(other, objects_url=s3_url + "-other").close()
    for folder, fault in ((new, "database of this store is not here"), (other, "another database")):
        with pytest.raises(MarketError, match=fault) as caught:
            KlineStore.open(folder, objects_url=s3_url, grace_ms=-1)
        assert bucket.where in caught.value.where
    bucket.delete("store.json")
    for folder in (new, other):
        with pytest.raises(MarketError, match="another database"):
            KlineStore.open(folder, objects_url=s3_url, grace_ms=-1)
    assert len(_files(bucket)) == 1, "nothing of the first store is cleaned away"


def test_a_store_moves_into_a_bucket_with_its_files(
    home: Path, s3_url: str, bucket: ObjectStore, make_bars: MakeBars
) -> None:
    bars = make_bars(["A"], count=50)
    with KlineStore.open(home) as store:
        store.write("1m", bars)
        store.roll(T0 + DAY)
    with pytest.raises(MarketError, match=r"1 Parquet files .* are not here") as caught:
        KlineStore.open(home, objects_url=s3_url, grace_ms=-1)
    assert "KLINECAST_OBJECTS_URL" in caught.value.remedy
    assert bucket.list() == []
    page = (Path(__file__).resolve().parents[2] / "docs" / "store.md").read_text()
    [moving] = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    exec(moving.replace("s3://bucket/prefix", s3_url).replace('"home', f'"{home}'), {})
    with KlineStore.open(home, objects_url=s3_url, grace_ms=-1) as store:
        _check(store, "1m", bars)


def test_stores_that_open_one_new_prefix_at_once(tmp_path: Path, s3_url: str) -> None:
    opened: list[KlineStore] = []
    refused: list[MarketError] = []
    barrier = threading.Barrier(4)

    def open_store(number: int) -> None:
        barrier.wait()
        try:
            opened.append(KlineStore.open(tmp_path / str(number), objects_url=s3_url))
        except MarketError as error:
            refused.append(error)

    threads = [threading.Thread(target=open_store, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in opened:
        store.close()
    assert len(opened) == 1
    assert all("another database" in error.what for error in refused)


def test_a_spoiled_or_missing_object_is_named(
    store: KlineStore, bucket: ObjectStore, make_bars: MakeBars
) -> None:
    store.write("1m", make_bars(["A"]))
    store.roll(T0 + DAY)
    [name] = _files(bucket)
    content = bucket.get(name)
    bucket.put(name, content[:-1] + b"?")
    assert "SHA-256" in store.verify()[0] and name in store.verify()[0]
    bucket.delete(name)
    assert "not there" in store.verify()[0] and name in store.verify()[0]
    with pytest.raises(MarketError, match="not there") as caught:
        store.panel("1m", ["A"])
    assert name in caught.value.where
    bucket.put(name, content)
    assert store.verify() == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a server that is away after one more try."""
    monkeypatch.setattr(objects_s3, "_RETRIES", 1)


def test_a_server_killed_while_it_takes_a_file_loses_nothing(
    impatient: None, store: KlineStore, bucket: ObjectStore, s3_server: S3Server, make_bars: MakeBars
) -> None:
    bars = make_bars(["A", "B"], count=1_440)
    store.write("1m", bars.head(1_440))
    store.roll(T0 + DAY)
    store.write("1m", bars)
    before = _files(bucket)
    raised: list[BaseException] = []

    def roll() -> None:
        try:
            store.roll(T0 + DAY)
        except BaseException as error:
            raised.append(error)

    s3_server.signal(signal.SIGSTOP)  # it takes the request in, and answers no more
    rolling = threading.Thread(target=roll)
    rolling.start()
    time.sleep(0.5)
    s3_server.kill()
    rolling.join()
    [error] = raised
    assert isinstance(error, MarketError) and "cannot be reached" in error.what
    assert s3_server.secret not in str(error)
    with pytest.raises(MarketError, match="cannot be reached"):
        store.panel("1m", ["A"])
    late = make_bars(["C"], count=10)
    store.write("1m", late)  # hot bars need no bucket

    s3_server.start()
    assert [name for name in _files(bucket) if name not in before] == []
    expected = pl.concat([bars, late])
    _check(store, "1m", expected)
    assert store.roll(T0 + DAY).rows == 1_440 + 10
    _check(store, "1m", expected)


def test_an_unreachable_bucket_is_told_at_open(
    impatient: None, home: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(MarketError, match="cannot be reached") as caught:
        KlineStore.open(home, objects_url=s3_url)
    assert "AWS_ENDPOINT_URL" in caught.value.remedy
    with pytest.raises(MarketError, match="gs://"):
        KlineStore.open(home, objects_url="gs://bucket/prefix")


def test_the_platform_keeps_its_files_where_the_setting_says(
    home: Path, s3_url: str, bucket: ObjectStore, make_bars: MakeBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLINECAST_HOME", str(home))
    monkeypatch.setenv("KLINECAST_OBJECTS_URL", s3_url + "/")
    current_settings.cache_clear()
    try:
        with Platform().store() as store:
            store.write("1m", make_bars(["A"]))
            store.roll(T0 + DAY)
    finally:
        current_settings.cache_clear()
    assert len(_files(bucket)) == 1 and not (home / "klines").exists()


_REFUSED = (
    "COPY (SELECT 1 AS symbol) TO '{file}' (FORMAT parquet)",
    "COPY (SELECT 1 AS symbol) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (SELECT 1 AS symbol) TO '{real}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (SELECT 1 AS symbol) TO 'cold://1m/new.parquet' (FORMAT parquet, USE_TMP_FILE false)",
    "SELECT * FROM read_parquet('{real}')",
    "SELECT * FROM read_text('cold://store.json')",
    "SELECT * FROM glob('cold://*')",
    "SELECT * FROM read_parquet('cold://1m/*.parquet')",
    "SELECT * FROM read_text('/etc/hostname')",
    "ATTACH 'cold://1m/new.duckdb'",
    "SET allowed_paths = ['/etc/hostname']",
    "SET enable_external_access = true",
)


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_no_query_changes_a_file_or_reaches_another(
    request: pytest.FixtureRequest, home: Path, make_bars: MakeBars, place: str
) -> None:
    url = request.getfixturevalue("s3_url") if place == "s3" else str(home / "klines")
    objects = open_objects(url)
    with KlineStore.open(home, objects_url=url if place == "s3" else None) as store:
        store.write("1m", make_bars(["A"]))
        store.roll(T0 + DAY)
        [name] = _files(objects)
        objects.put("1m/2023-11-15-1111111111111111.parquet", objects.get(name))
        before = {item: objects.get(item.name) for item in objects.list()}
        with store.connect_duckdb() as connection:
            for query in _REFUSED:
                with pytest.raises(duckdb.Error):
                    connection.execute(query.format(file=f"cold://{name}", real=objects.uri(name))).fetchall()
            assert connection.execute("SELECT count(*) FROM klines").fetchall() == [(10,)]
        assert {item: objects.get(item.name) for item in objects.list()} == before


def test_threads_that_share_an_open_file_get_the_bytes_they_ask_for(bucket: ObjectStore) -> None:
    """DuckDB's threads share one, and another may seek between a thread's seek and its read."""
    content = bytes(range(256)) * 64
    bucket.put("1m/a.parquet", content)
    file = ColdFile(1, "1m", T0, T0 + DAY, "1m/a.parquet", 1, len(content), "", 2, 0)
    stream = SnapshotFiles(bucket, [file]).open("cold://1m/a.parquet")
    threads, barrier, wrong = 8, threading.Barrier(8), []

    def read(number: int) -> None:
        for turn in range(10):
            start = (number * 997 + turn * 1_009) % (len(content) - 100)
            stream.seek(start)
            barrier.wait()
            if stream.read(100) != content[start : start + 100] or stream.tell() != start + 100:
                wrong.append((number, turn))

    readers = [threading.Thread(target=read, args=(number,)) for number in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert wrong == []
    stream.seek(-5, 2)
    assert stream.read() == content[-5:] and stream.read(3) == b""
