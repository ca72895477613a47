"""Several real processes at one store: writing, rolling, and being killed."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from market.store import KlineStore

MakeBars = Callable[..., pl.DataFrame]
T0, MINUTE, DAY = 1_700_006_400_000, 60_000, 86_400_000

# Writes pages of its own symbol and of one that all write, says so after each, and rolls now and then.
_WORKER = """
import sys
from pathlib import Path
import polars as pl
from market.klines import STORED_SCHEMA
from market.store import KlineStore

home, url = sys.argv[1], sys.argv[2] or None
number, pages, every, round_ = map(int, sys.argv[3:])
t0, page, step = 1_700_006_400_000, 50, 60_000

def bars(symbol, first):
    rows = [(symbol, t0 + i * step, 5.0 + i % 7, 11.0, 4.0, 5.0 + i % 7, 2.0 + i, None, None, i, 1.0, None)
            for i in range(first, first + page)]
    return pl.DataFrame(rows, schema=STORED_SCHEMA, orient="row")

with KlineStore.open(Path(home), url) as store:
    for n in range(pages):
        first = (round_ * pages + n) * page
        frame = pl.concat([bars(f"own{number}", first), bars("shared", first)])
        store.write("1m", frame)
        sys.stdout.write(f"{first}\\n")
        sys.stdout.flush()
        if every and n % every == number:
            store.roll(t0 + 1_000 * 86_400_000)
"""


def _start(
    home: Path, url: str | None, number: int, pages: int, every: int, round_: int
) -> subprocess.Popen[str]:
    arguments = [str(home), url or "", str(number), str(pages), str(every), str(round_)]
    return subprocess.Popen([sys.executable, "-c", _WORKER, *arguments], stdout=subprocess.PIPE, text=True)


def _held(store: KlineStore) -> dict[str, list[int]]:
    frame = store.scan("1m", columns=["symbol", "open_time", "volume"]).collect()
    index = (frame["open_time"] - T0) // MINUTE
    assert (frame["volume"] == 2.0 + index).all()
    return {
        str(symbol): ((rows["open_time"] - T0) // MINUTE).to_list()
        for (symbol,), rows in frame.group_by("symbol", maintain_order=True)
    }


def test_four_processes_write_and_roll_at_once(home: Path, database_url: str | None) -> None:
    """They also create the store together: none is there before."""
    workers = [_start(home, database_url, number, 12, 5, 0) for number in range(4)]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0, 0]
    with KlineStore.open(home, database_url) as store:
        held = _held(store)
        assert sorted(held) == ["own0", "own1", "own2", "own3", "shared"]
        assert all(found == list(range(600)) for found in held.values())
        assert store.verify() == []


def test_kill_9_loses_nothing_acknowledged_and_doubles_nothing(home: Path, database_url: str | None) -> None:
    dice = random.Random(5)
    acknowledged: dict[int, set[int]] = {number: set() for number in range(4)}
    for round_ in range(3 if database_url is None else 1):
        workers = [_start(home, database_url, number, 400, 3, round_) for number in range(4)]
        first = workers[0].stdout.readline()  # type: ignore[union-attr]
        time.sleep(dice.uniform(0.0, 0.6))
        for worker in workers:
            worker.kill()
        for number, worker in enumerate(workers):
            said = worker.communicate(timeout=30)[0]
            lines = ((first if number == 0 else "") + said).split("\n")[
                :-1
            ]  # a line without its end is not said
            acknowledged[number] |= {int(line) for line in lines if line}
        with KlineStore.open(home, database_url) as store:
            held = _held(store)
            for number, pages in acknowledged.items():
                want = {i for page in pages for i in range(page, page + 50)}
                own = held.get(f"own{number}", [])
                assert len(own) == len(set(own)) and want <= set(own)
                assert want <= set(held.get("shared", []))
                assert len(own) % 50 == 0, "a page is there whole or not at all"
            assert store.verify() == []
    assert sum(map(len, acknowledged.values())) > 0
    with KlineStore.open(home, database_url, grace_ms=-1) as store:
        assert _held(store) == held and store.verify() == []
        with store._database.read() as transaction:
            registered = {path for (path,) in transaction.execute("SELECT path FROM files")}
    on_disk = {path.relative_to(home / "klines").as_posix() for path in (home / "klines").glob("*/*")}
    assert on_disk == registered, "what the dead left behind is gone"


def test_threads_share_a_store(store: KlineStore, make_bars: MakeBars) -> None:
    pages = [make_bars([f"S{i % 5}"], start=T0 + i // 5 * 20 * MINUTE, count=20) for i in range(40)]
    errors: list[BaseException] = []
    seen: list[int] = []

    def write(mine: list[pl.DataFrame]) -> None:
        try:
            for page in mine:
                store.write("1m", page)
                seen.append(store.scan("1m").collect().height)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(pages[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and max(seen) <= 800
    assert store.scan("1m").collect().height == 800 and store.verify() == []


def test_readers_see_every_bar_once_while_a_roll_runs(home: Path, database_url: str | None) -> None:
    """Counting readers beside writers that only add and rolls: the count never falls."""
    with KlineStore.open(home, database_url) as store:
        workers = [_start(home, database_url, number, 10, 2, 0) for number in range(2)]
        counts = [0]
        while any(worker.poll() is None for worker in workers):
            frame = store.scan("1m", columns=["symbol", "open_time"]).collect()
            assert not frame.is_duplicated().any()
            counts.append(frame.height)
        counts.append(store.scan("1m").collect().height)
        assert [worker.returncode for worker in workers] == [0, 0]
        assert counts == sorted(counts) and counts[-1] == 3 * 500
        assert store.verify() == []


def test_a_forked_child_opens_connections_of_its_own(home: Path, make_bars: MakeBars) -> None:
    code = """
import os, sys
from pathlib import Path
from market.store import KlineStore
store = KlineStore.open(Path(sys.argv[1]))
store.spans()
child = os.fork()
if child == 0:
    os._exit(0 if store.spans().height == 1 and all(c is not p for c in store._database._pool._idle
             for p in __import__("market.store.database", fromlist=["x"])._FORKED_AWAY[0]) else 1)
assert os.waitpid(child, 0)[1] == 0
assert store.spans().height == 1
"""
    with KlineStore.open(home) as store:
        store.write("1m", make_bars(["A"]))
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(home)], timeout=60).returncode == 0


@pytest.mark.parametrize("signal_after", [0.0, 0.05])
def test_a_writer_stopped_in_its_transaction_blocks_no_reader(
    home: Path, make_bars: MakeBars, signal_after: float
) -> None:
    with KlineStore.open(home) as store, store._database.write("any"):
        time.sleep(signal_after)
        assert store.scan("1m").collect().is_empty()
