"""A damaged or missing Parquet file: named by every reader, never vouched for anew, and a way out without a backup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market.errors import MarketError
from market.store import KlineStore
from market.store.objects import open_objects

MakeBars = Callable[..., pl.DataFrame]
T0, DAY = 1_700_006_400_000, 86_400_000
FIRST = pl.col("open_time") < T0 + DAY


@pytest.fixture
def bars(make_bars: MakeBars) -> pl.DataFrame:
    return make_bars(["A", "B"], count=2 * 1_440)


@pytest.fixture
def rolled(home: Path, bars: pl.DataFrame) -> KlineStore:
    """Two days in a file each."""
    store = KlineStore.open(home)
    store.write("1m", bars)
    assert store.roll(T0 + 2 * DAY).files == 2
    return store


def _first_file(home: Path) -> Path:
    return min((home / "klines").rglob("*.parquet"))


def _halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip(file: Path) -> None:
    """Damage the middle, which no reader looks at but the one of these bars."""
    content = bytearray(file.read_bytes())
    content[2_000:7_000] = bytes(5_000)
    file.write_bytes(content)


def _swap(file: Path) -> None:
    file.write_bytes(max(file.parent.glob("*.parquet")).read_bytes())


def _say_so_big(store: KlineStore, file: Path) -> None:
    """Let the manifest have the size that a file has, so that only its content tells."""
    with store._database.write("any") as transaction:
        transaction.run("UPDATE files SET bytes = ? WHERE path = ?", (file.stat().st_size, f"1m/{file.name}"))


@pytest.mark.parametrize("damage", [_halve, _flip], ids=["cut short", "overwritten"])
def test_every_reader_names_a_damaged_file(
    rolled: KlineStore, home: Path, bars: pl.DataFrame, damage: Callable[[Path], None]
) -> None:
    file = _first_file(home)
    damage(file)
    readers = {
        "panel": lambda: rolled.panel("1m", ["A", "B"]),
        "correction": lambda: rolled.write("1m", bars.with_columns(volume=99.0)),
        "scan of all": lambda: rolled.scan("1m").collect(),
    }
    for name, read in readers.items():
        with pytest.raises((MarketError, pl.exceptions.ComputeError), match="damaged") as caught:
            read()
        if isinstance(caught.value, MarketError):
            assert caught.value.where == str(file), name
            assert "backup" in caught.value.remedy and "2023-11-15 and 2023-11-16" in caught.value.remedy


def test_a_file_of_another_size_is_refused_before_a_query_runs(rolled: KlineStore, home: Path) -> None:
    _halve(_first_file(home))
    with pytest.raises(MarketError, match=r"damaged: it has .* bytes"):
        rolled.connect_duckdb()


@pytest.mark.parametrize("damage", [_flip, _swap], ids=["overwritten", "the other day's"])
def test_no_rewriting_vouches_for_a_damaged_file(
    rolled: KlineStore, home: Path, bars: pl.DataFrame, damage: Callable[[Path], None]
) -> None:
    file = _first_file(home)
    content = file.read_bytes()
    rolled.write("1m", bars.filter(FIRST, pl.col("symbol") == "A").head(1).with_columns(volume=99.0))
    damage(file)
    _say_so_big(rolled, file)
    rewriters = (
        lambda: rolled.roll(T0 + 2 * DAY),
        lambda: rolled.compact(T0 + 60 * DAY),
        lambda: rolled.remove("1m", ["A"], T0, T0 + DAY // 2),
    )
    for rewrite in rewriters:
        with pytest.raises(MarketError, match="damaged: its SHA-256") as caught:
            rewrite()
        assert caught.value.where == str(file)
    file.write_bytes(content)  # from the backup
    _say_so_big(rolled, file)
    assert rolled.compact(T0 + 60 * DAY).rows == bars.height
    assert rolled.scan("1m").collect().height == bars.height


@pytest.mark.parametrize("place", ["folder", "s3"])
@pytest.mark.parametrize("damage", ["gone", "garbage"])
def test_without_a_backup_its_days_are_removed_and_fetched_again(
    request: pytest.FixtureRequest, home: Path, bars: pl.DataFrame, place: str, damage: str
) -> None:
    url = request.getfixturevalue("s3_url") if place == "s3" else None
    objects = open_objects(url or home / "klines")
    with KlineStore.open(home, objects_url=url) as store:
        store.write("1m", bars)
        store.roll(T0 + 2 * DAY)
        name = min(item.name for item in objects.list() if item.name.endswith(".parquet"))
        if damage == "gone":
            objects.delete(name)
        else:
            objects.put(name, b"no Parquet at all")
        with pytest.raises(MarketError, match="Parquet file that is") as caught:
            store.remove("1m", ["A"], T0, T0 + DAY)  # the bars of B would have to be read
        assert "klinecast remove" in caught.value.remedy
        assert store.remove("1m", ["A", "B"], T0, T0 + DAY).rows == 2 * 1_440
        assert store.verify() == []
        assert store.missing("A", "1m", T0, T0 + 2 * DAY) == [(T0, T0 + DAY)]
        store.write("1m", bars.filter(FIRST), bulk=True)
        assert_frame_equal(store.scan("1m").collect(), bars)
        assert store.verify() == []


def test_bars_that_no_file_holds_any_more_are_not_compared_with_others(
    rolled: KlineStore, home: Path, bars: pl.DataFrame
) -> None:
    file = _first_file(home)
    _swap(file)
    _say_so_big(rolled, file)
    with pytest.raises(MarketError, match="2,880 bars that the store's coverage names") as caught:
        rolled.write("1m", bars.filter(FIRST))
    assert "verify" in caught.value.remedy
