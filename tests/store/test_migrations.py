"""A store of schema version 1 is brought up to date where it lies; newer ones are refused."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psycopg
import pytest
from polars.testing import assert_frame_equal

from market.errors import MarketError
from market.store import KlineStore, WriteResult, migrations
from market.store.schema import SCHEMA_VERSION
from tests.store.version_1 import write_home

MakeBars = Callable[..., pl.DataFrame]
T0, MINUTE, DAY = 1_700_006_400_000, 60_000, 86_400_000


@pytest.fixture
def bars(make_bars: MakeBars) -> pl.DataFrame:
    """Two and a half days: A from the first minute, B from noon of the second day; some values unknown."""
    later = make_bars(["B"], start=T0 + DAY * 3 // 2, count=1440, seed=1).with_columns(
        pl.when(pl.col("open_time") % 7 == 0).then(None).otherwise(name).alias(name)
        for name in ("quote_volume", "trades")
    )
    return pl.concat([make_bars(["A"], count=3600), later])


@pytest.fixture
def old_home(home: Path, database_url: str | None, bars: pl.DataFrame) -> Path:
    write_home(home, database_url, bars, rolled_before=T0 + 2 * DAY)
    return home


def test_version_1_is_read_written_and_rolled_on(
    old_home: Path, database_url: str | None, bars: pl.DataFrame, make_bars: MakeBars
) -> None:
    before = sorted((old_home / "klines" / "1m").iterdir())
    for _ in range(2):  # opening it again finds nothing to do
        with KlineStore.open(old_home, database_url) as store:
            assert_frame_equal(store.scan("1m").collect(), bars, check_exact=True)
            assert store.verify() == []
            ledger = store.gaps()
            assert store.predictions().row(0)[-3:] == ("v1", 8, None), "no volatility was predicted then"
            assert ledger["start_time"].to_list() == [T0 - MINUTE, T0 + DAY * 3 // 2 - MINUTE]
            assert store.write("1m", bars) == WriteResult(0, 0, bars.height)
            assert store.scan("1m", ["B"], T0 + DAY, T0 + 2 * DAY).collect().height == 720
    assert sorted((old_home / "klines" / "1m").iterdir()) == before, "no file is touched"
    with KlineStore.open(old_home, database_url) as store:
        changed = bars.with_columns(
            volume=pl.when((pl.col("symbol") == "A") & (pl.col("open_time") == T0))
            .then(99.0)
            .otherwise("volume")
        )
        early = make_bars(["B"], start=T0 + DAY, count=720, seed=2)  # the half day before B's first bar
        assert store.write("1m", pl.concat([changed, early])) == WriteResult(720, 1, bars.height - 1)
        assert store.roll(T0 + 3 * DAY).files == 3
        want = pl.concat([changed, early]).sort("symbol", "open_time")
        assert_frame_equal(store.scan("1m").collect(), want, check_exact=True)
        assert store.compact(T0 + 30 * DAY).files_after == 1
        assert_frame_equal(store.scan("1m").collect(), want, check_exact=True)
        assert store.verify() == []
    assert _version(old_home, database_url) == str(SCHEMA_VERSION)


def test_a_migration_that_fails_changes_nothing(
    old_home: Path, database_url: str | None, bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_own_days", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            KlineStore.open(old_home, database_url)
    assert _version(old_home, database_url) == "1"
    with KlineStore.open(old_home, database_url) as store:
        assert_frame_equal(store.scan("1m").collect(), bars, check_exact=True)
        assert store.verify() == []


def test_a_version_that_none_can_start_from_is_refused(old_home: Path, database_url: str | None) -> None:
    _execute(old_home, database_url, "UPDATE store_meta SET value = '0' WHERE name = 'schema_version'")
    with pytest.raises(MarketError, match="version 0") as caught:
        KlineStore.open(old_home, database_url)
    assert "nothing was changed" in caught.value.remedy and _version(old_home, database_url) == "0"


def test_newer_files_are_refused(home: Path, make_bars: MakeBars) -> None:
    with KlineStore.open(home) as store:
        store.write("1m", make_bars(["A"]))
        store.roll(T0 + DAY)
    _execute(home, None, f"UPDATE files SET schema_version = {SCHEMA_VERSION + 1}")
    with KlineStore.open(home) as store, pytest.raises(MarketError, match=f"version {SCHEMA_VERSION + 1}"):
        store.scan("1m")
    mark = home / "klines" / "store.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(MarketError, match=f"version {SCHEMA_VERSION + 1}") as caught:
        KlineStore.open(home)
    assert "newer" in caught.value.remedy


def _execute(home: Path, url: str | None, sql: str) -> list[tuple[str, ...]]:
    if url is None:
        connection = sqlite3.connect(home / "klines.sqlite3", isolation_level=None)
        rows = connection.execute(sql).fetchall()
        connection.close()
        return rows
    with psycopg.connect(url) as server:
        server.execute("SET search_path = klinecast")
        cursor = server.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


def _version(home: Path, url: str | None) -> str:
    [(version,)] = _execute(home, url, "SELECT value FROM store_meta WHERE name = 'schema_version'")
    return version
