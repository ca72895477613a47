"""The table of archive files, in both databases."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

from market.store import VIEWS, KlineStore
from market.store.archived import ArchivedFile

MAY, JUNE, DAY = 1_746_057_600_000, 1_748_736_000_000, 86_400_000
NOW = JUNE + 9 * DAY
DOCS = Path(__file__).resolve().parents[2] / "docs"
FILE = ArchivedFile("data/BTCUSDT-15m-2025-05.zip", "BTCUSDT", "15m", MAY, JUNE, "ab", 2_976, 1, NOW, NOW)


def test_files_are_found_by_interval_symbol_and_span(store: KlineStore) -> None:
    store.write_archives([FILE])
    store.write_archives([replace(FILE, versions=2)])
    (found,) = store.archives()
    assert found == replace(FILE, versions=2)
    assert store.archives("15m", ["BTCUSDT"], JUNE - 1, JUNE + DAY) == [found]
    assert store.archives("15m", ["BTCUSDT"], JUNE, JUNE + DAY) == []
    assert store.archives("15m", ["BTCUSDT"], MAY - DAY, MAY) == []
    assert store.archives("15m", ["ETHUSDT"]) == store.archives("1m") == []


def test_they_and_all_that_is_documented_can_be_queried(store: KlineStore) -> None:
    documented = (DOCS / "store.md").read_text().partition("It has views ")[2].partition(";")[0]
    with store.connect_duckdb() as connection:
        assert connection.sql("SELECT * FROM archives").fetchall() == []
    store.write_archives([FILE])
    with store.connect_duckdb() as connection:
        assert connection.sql("SELECT * FROM archives").fetchall() == [astuple(FILE)]
        for name in VIEWS:
            connection.sql(f"SELECT count(*) FROM {name}").fetchall()
            assert f"`{name}`" in documented


def test_the_older_a_file_the_rarer_it_is_due(store: KlineStore) -> None:
    store.write_archives([FILE])

    def due(now: int, recheck_after_ms: int = DAY) -> list[ArchivedFile]:
        return store.archives_due("15m", ["BTCUSDT"], now, recheck_after_ms)

    assert due(NOW + 9 * DAY - 1) == []
    assert due(NOW + 9 * DAY) == [FILE], "it was nine days old when it was last looked at"
    assert due(NOW + 9 * DAY, 10 * DAY) == []
    assert store.archives_due("1m", ["BTCUSDT"], NOW + 99 * DAY, DAY) == []


def test_what_a_killed_run_left_is_due_at_once(store: KlineStore) -> None:
    store.write_archives([replace(FILE, stored_time=0)])
    assert [file.done for file in store.archives_due("15m", ["BTCUSDT"], NOW, DAY)] == [False]
    store.write_archives([replace(FILE, sha256="", rows=0, versions=0, stored_time=0)])
    assert store.archives_due("15m", ["BTCUSDT"], NOW, DAY) == [], (
        "a file that is not there is not unfinished"
    )
