"""A full disk, a folder that cannot be written, a database that is none: clear errors, nothing lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psycopg
import pytest
from polars.testing import assert_frame_equal

from market.errors import MarketError
from market.store import KlineStore
from market.store.schema import SCHEMA_VERSION

MakeBars = Callable[..., pl.DataFrame]
T0, DAY = 1_700_006_400_000, 86_400_000


@pytest.mark.parametrize("file_at", ["home", "home/klines"])
def test_a_file_where_the_folder_should_be(tmp_path: Path, file_at: str) -> None:
    path = tmp_path / file_at
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("not a folder")
    with pytest.raises(MarketError) as caught:
        KlineStore.open(tmp_path / "home")
    assert str(path) in caught.value.where and "KLINECAST_HOME" in caught.value.remedy
    assert path.read_text() == "not a folder"


def test_a_file_that_is_no_database(home: Path) -> None:
    (home / "klines.sqlite3").write_text("this is no database at all" * 100)
    with pytest.raises(MarketError, match="SQLITE_NOTADB") as caught:
        KlineStore.open(home)
    assert "klines.sqlite3" in caught.value.where


def test_a_database_that_cannot_be_opened(home: Path) -> None:
    (home / "klines.sqlite3").mkdir()
    with pytest.raises(MarketError, match="unable to open") as caught:
        KlineStore.open(home)
    assert "writable" in caught.value.remedy


def test_a_newer_schema_is_refused_and_left_alone(
    home: Path, database_url: str | None, make_bars: MakeBars
) -> None:
    with KlineStore.open(home, database_url) as store:
        store.write("1m", make_bars(["A"]))
    _set_version(home, database_url, SCHEMA_VERSION + 1)
    with pytest.raises(MarketError, match=f"version {SCHEMA_VERSION + 1}") as caught:
        KlineStore.open(home, database_url)
    assert "newer" in caught.value.remedy
    _set_version(home, database_url, SCHEMA_VERSION)
    with KlineStore.open(home, database_url) as store:
        assert_frame_equal(store.scan("1m").collect(), make_bars(["A"]))


def _set_version(home: Path, url: str | None, version: int) -> None:
    table = "klinecast.store_meta" if url else "store_meta"
    sql = f"UPDATE {table} SET value = '{version}' WHERE name = 'schema_version'"
    if url is not None:
        with psycopg.connect(url) as server:
            server.execute(sql.encode())
    else:
        with sqlite3.connect(home / "klines.sqlite3") as file:
            file.execute(sql)
        file.close()


_FULL_DISK = """
import resource, sys
from pathlib import Path
import polars as pl
from market.errors import MarketError
from market.store import KlineStore

home, what, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with KlineStore.open(home) as store:
    before = store.scan("1m").collect()
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        if what == "write":
            store.write("1m", pl.read_parquet(sys.argv[4]))
        else:
            store.roll(1_800_000_000_000)
    except MarketError as error:
        sys.stdout.write(str(error))
    assert store.scan("1m").collect().equals(before)  # still readable, still the same
"""


@pytest.mark.parametrize(("what", "limit"), [("write", 200_000), ("roll", 5_000)])
def test_no_room_for_a_file_loses_nothing(
    home: Path, tmp_path: Path, make_bars: MakeBars, what: str, limit: int
) -> None:
    """The kernel refuses to let files grow: the same path as a full disk."""
    first, second = make_bars(["A", "B"], count=700), make_bars(["C", "D"], count=1440)
    second.write_parquet(tmp_path / "second.parquet")
    with KlineStore.open(home) as store:
        store.write("1m", first)
    arguments = [str(home), what, str(limit), str(tmp_path / "second.parquet")]
    run = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, *arguments], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert "where:" in run.stdout and "disk" in run.stdout and "nothing" in run.stdout
    with KlineStore.open(home) as store:
        assert store.verify() == []
        assert_frame_equal(store.scan("1m").collect(), first)
        assert not list((home / "klines").glob("*/*"))
        store.write("1m", second)
        assert store.roll(T0 + DAY).rows == first.height + second.height


def test_a_full_database_undoes_the_write(home: Path, make_bars: MakeBars) -> None:
    with KlineStore.open(home) as store:
        store.write("1m", make_bars(["A"]))
        pool = store._database._pool  # type: ignore[attr-defined]
        pool._idle[0].execute("PRAGMA max_page_count = 40")
        with pytest.raises(MarketError, match="SQLITE_FULL") as caught:
            store.write("1m", make_bars(["A", "B"], count=1440, seed=1))
        assert "disk space" in caught.value.remedy
        pool._idle[0].execute("PRAGMA max_page_count = 1000000")
        assert_frame_equal(store.scan("1m").collect(), make_bars(["A"]))
        assert store.verify() == []


def test_a_hung_writer_is_waited_for_and_then_named(home: Path, make_bars: MakeBars) -> None:
    with KlineStore.open(home) as holder, KlineStore.open(home) as waiting:
        waiting._database._busy_ms = 100  # type: ignore[attr-defined]
        with holder._database.write("any"), pytest.raises(MarketError, match=r"writing for 0\.1 s"):
            waiting.write("1m", make_bars(["A"]))
        assert waiting.write("1m", make_bars(["A"])).rows_inserted == 10


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@h/db",
        "postgresql://u:secret@127.0.0.1:1/db",
        "postgresql://u:secret@[/db",
        "postgresql://u:se@secret@127.0.0.1:1/db",
        "postgresql://u:se/secret@127.0.0.1:1/db",
        "postgresql://u:se#secret@127.0.0.1:1/db",
        "postgresql://u:se?secret@127.0.0.1:1/db",
        "host=127.0.0.1 password=secret dbname=db",
        "u:secret@127.0.0.1:1/db",
    ],
)
def test_an_unusable_database_url_is_told_without_its_password(home: Path, url: str) -> None:
    with pytest.raises(MarketError) as caught:
        KlineStore.open(home, url)
    assert "secret" not in str(caught.value) and caught.value.remedy


def test_a_server_that_goes_away_is_told_and_come_back_to(
    home: Path, postgres_url: str, make_bars: MakeBars
) -> None:
    with KlineStore.open(home, postgres_url) as store:
        store.write("1m", make_bars(["A"]))
        with psycopg.connect(postgres_url, autocommit=True) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'klinecast' AND pid <> pg_backend_pid()"
            )
        with pytest.raises(MarketError, match="failed") as caught:
            store.write("1m", make_bars(["B"]))
        assert "server" in caught.value.remedy
        assert store.write("1m", make_bars(["B"])).rows_inserted == 10


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        ("/no_such_database", "does not exist", "createdb"),
        ("nobody@", "does not exist", "a user that the server has"),
        ("options=-cdefault_transaction_read_only%3Don", "read-only transaction", "takes writes"),
        ("options=-cstatement_timeout%3D1", "statement timeout", "statement_timeout"),
        ("guest@", "permission denied", "let this user create the schema"),
    ],
)
def test_what_a_server_will_not_do_comes_with_its_own_remedy(
    home: Path, postgres_url: str, make_bars: MakeBars, change: str, what: str, remedy: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute("DROP ROLE IF EXISTS guest")
        server.execute("CREATE ROLE guest LOGIN")
    url = postgres_url
    if change.startswith("/"):
        url = url.replace("/postgres?", f"{change}?")
    elif change.endswith("@"):
        url = url.replace("postgres:@", change)
    else:
        KlineStore.open(home, url).close()
        url += f"&{change}"
    assert url != postgres_url
    bars = make_bars([f"S{i}" for i in range(20)], count=2_000)
    with pytest.raises(MarketError, match=what) as caught, KlineStore.open(home, url) as store:
        store.write("1m", bars)
    assert remedy in caught.value.remedy and "report" not in caught.value.remedy


def test_a_connection_that_breaks_at_the_commit_says_that_it_may_have_happened(
    home: Path, postgres_url: str, make_bars: MakeBars
) -> None:
    """The server waits at the end of a transaction, and is told to end the session meanwhile."""
    bars = make_bars(["A", "B"])
    with KlineStore.open(home, postgres_url) as store:
        store.write("1m", bars.filter(symbol="A"))
        with psycopg.connect(postgres_url, autocommit=True) as server:
            server.execute(
                "CREATE FUNCTION klinecast.wait() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$"
            )
            server.execute(
                "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON klinecast.changes"
                " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION klinecast.wait()"
            )

            def end_the_session() -> None:
                while not server.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT'"
                    " AND wait_event = 'PgSleep'"
                ).fetchall():
                    time.sleep(0.02)

            ending = threading.Thread(target=end_the_session)
            ending.start()
            with pytest.raises(MarketError, match="whether it did is not known") as caught:
                store.write("1m", bars)
            ending.join()
            assert "not stored twice" in caught.value.remedy
            server.execute("DROP TRIGGER slow ON klinecast.changes")
        assert store.write("1m", bars).rows_inserted == 10
        assert_frame_equal(store.scan("1m").collect(), bars)
