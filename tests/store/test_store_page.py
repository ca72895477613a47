"""docs/store.md says what is so: its queries run, its tables and files are the ones there are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl

from market.store import KlineStore
from market.store.bars import BAR, VALUE_COLUMNS
from market.store.schema import TABLES

MakeBars = Callable[..., pl.DataFrame]
T0, DAY = 1_700_006_400_000, 86_400_000
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "store.md").read_text()


def _code(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_every_snippet_runs(home: Path, make_bars: MakeBars) -> None:
    with KlineStore.open(home) as store:
        store.write("1m", make_bars(["BTCUSDT", "ETHUSDT"], count=600))
        store.roll(T0 + DAY)
    opening, querying, polars, publishing, removing = (
        code.replace('"home', f'"{home}').replace("file:home", f"file:{home}") for code in _code("python")
    )
    names: dict[str, object] = {"pl": pl}
    exec(opening, names)
    assert names["panel"].columns["close"].shape == (500, 2)  # type: ignore[attr-defined]
    assert names["frame"].height == 600  # type: ignore[attr-defined]
    exec(querying, names)
    exec(publishing, names)
    assert names["newest"].columns["close"].shape == (500, 2)  # type: ignore[attr-defined]
    exec(polars, names)
    assert names["frame"].height == 1_200  # type: ignore[attr-defined]
    exec(removing, names)
    assert names["report"].rows == 60  # type: ignore[attr-defined]
    exec(polars, names)
    assert names["frame"].height == 1_140, "the superseded file is not read"  # type: ignore[attr-defined]


def test_the_table_of_tables_is_complete() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\w, ]+) \|$", PAGE, re.MULTILINE))
    assert set(rows) == {table.name for table in TABLES} | {"klines_hot"}
    assert {table.name: ", ".join(table.key) for table in TABLES} == {
        k: v for k, v in rows.items() if k != "klines_hot"
    }


def test_the_layout_of_a_home_and_of_a_bar(home: Path, make_bars: MakeBars) -> None:
    with KlineStore.open(home) as store:
        store.write("1m", make_bars(["A"]))
        store.roll(T0 + DAY)
        found = {
            re.sub("-[0-9a-f]{16}[.]", "-<hash>.", path.name) for path in home.rglob("*") if path.is_file()
        }
    suffixes = {f"klines.sqlite3{suffix}" for suffix in ("", "-wal", "-shm", "-writer", "-writer-next")}
    assert found == {*suffixes, "store.json", "2023-11-15-<hash>.parquet"}
    for name in ("klines.sqlite3", "store.json", "2023-11-15-<hash>.parquet", "-wal", "-shm", "-writer-next"):
        assert name in PAGE
    assert BAR.itemsize == 88 and ", ".join(VALUE_COLUMNS).replace("close, ", "close,\n", 1) in PAGE


def test_commits_are_durable(home: Path, postgres_url: str) -> None:
    with KlineStore.open(home) as store, store._database.read() as transaction:
        assert transaction.execute("PRAGMA synchronous") == [(2,)]
        assert transaction.execute("PRAGMA journal_mode") == [("wal",)]
    with KlineStore.open(home.parent / "other", postgres_url) as store, store._database.read() as transaction:
        assert transaction.execute("SHOW synchronous_commit") == [("on",)]
