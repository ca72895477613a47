"""kill -9 during bulk writes, rolls, compactions and removals: nothing lost, nothing doubled, nothing half gone."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from market.store import KlineStore

T0, STEP, DAY = 1_700_006_400_000, 300_000, 86_400_000
CHUNK = 10 * 288  # ten days of 5m bars

# Each of two workers has a symbol of its own. It says what it is about to do and what is done.
_WORKER = """
import sys
from pathlib import Path
import polars as pl
from market.klines import STORED_SCHEMA
from market.store import KlineStore

home, url = sys.argv[1], sys.argv[2] or None
number, first, last = map(int, sys.argv[3:])
T0, STEP, CHUNK = 1_700_006_400_000, 300_000, 2880

def bars(chunk, volume):
    i = pl.int_range(chunk * CHUNK, (chunk + 1) * CHUNK, eager=True)
    part = pl.DataFrame({"open_time": T0 + i * STEP}).with_columns(
        open=5.0 + i % 7, high=11.0, low=4.0, close=5.0 + i % 7, volume=volume + i, close_time=None,
        quote_volume=None, trades=i, taker_buy_base=1.0, taker_buy_quote=None)
    parts = [part.with_columns(symbol=pl.lit(f"{name}{number}")) for name in "AB"]
    return pl.concat(parts).select(pl.col(n).cast(k) for n, k in STORED_SCHEMA.items())

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

with KlineStore.open(Path(home), url) as store:
    for chunk in range(first, last):
        store.write("5m", bars(chunk, 2.0), bulk=True, trusted=True)
        say("written", chunk)
        store.write("5m", bars(chunk, 2.0).filter(pl.col("open_time") % 7 == 0).with_columns(volume=1e6))
        say("revised", chunk)
        store.roll(T0 + 10_000 * 86_400_000)
        store.compact(T0 + 10_000 * 86_400_000)
        if chunk % 3 == 1:
            start = T0 + (chunk - 1) * CHUNK * STEP
            say("removing", chunk - 1)
            store.remove("5m", [f"A{number}", f"B{number}"], start, start + CHUNK * STEP)
            say("removed", chunk - 1)
"""


def _start(home: Path, url: str | None, number: int, first: int) -> subprocess.Popen[str]:
    arguments = [str(home), url or "", str(number), str(first), str(first + 500)]
    return subprocess.Popen([sys.executable, "-c", _WORKER, *arguments], stdout=subprocess.PIPE, text=True)


def _chunks(store: KlineStore, number: int) -> dict[int, pl.DataFrame]:
    """Return the bars of a worker by chunk, each one whole."""
    frame = store.scan(
        "5m", [f"A{number}", f"B{number}"], columns=["symbol", "open_time", "volume"]
    ).collect()
    assert not frame.select("symbol", "open_time").is_duplicated().any()
    index = (frame["open_time"] - T0) // STEP
    ordinary, revised = frame["volume"] == 2.0 + index, frame["volume"] == 1e6
    assert (ordinary | revised).all() and not (revised & (frame["open_time"] % 7 != 0)).any()
    parts = frame.with_columns(chunk=index // CHUNK, revised=revised).partition_by("chunk", as_dict=True)
    assert all(part.height == 2 * CHUNK for part in parts.values()), "a batch is there whole or not at all"
    return {int(chunk): part for (chunk,), part in parts.items()}


def test_whatever_dies_leaves_the_store_whole(home: Path, database_url: str | None) -> None:
    dice = random.Random(3)
    said: dict[int, dict[str, set[int]]] = {0: {}, 1: {}}
    for round_ in range(3 if database_url is None else 1):
        workers = [_start(home, database_url, number, 300 * round_) for number in said]
        lines = 7 if round_ == 0 else dice.randint(2, 12)  # the first removal is told in line 6
        heard = ["".join(worker.stdout.readline() for _ in range(lines)) for worker in workers]  # type: ignore[union-attr]
        time.sleep(dice.uniform(0.0, 0.1))
        for worker in workers:
            worker.kill()
        for number, worker in enumerate(workers):
            # Not communicate(): it would pass over what readline has read ahead.
            told = (heard[number] + worker.stdout.read()).split("\n")[:-1]  # type: ignore[union-attr]
            worker.wait(30)
            for word, chunk in (line.split() for line in told):
                said[number].setdefault(word, set()).add(int(chunk))
        with KlineStore.open(home, database_url) as store:
            assert store.verify() == []
            for number, words in said.items():
                chunks = _chunks(store, number)
                removed, doubtful = words.get("removed", set()), words.get("removing", set())
                assert words.get("written", set()) - doubtful <= set(chunks)
                assert not removed & set(chunks)
                for chunk in words.get("revised", set()) & set(chunks):
                    assert (chunks[chunk]["revised"] == (chunks[chunk]["open_time"] % 7 == 0)).all()
    assert all(words.get("removed") for words in said.values()), "the workers came as far as a removal"
    with KlineStore.open(home, database_url, grace_ms=-1) as store:
        assert store.verify() == []
        with store._database.read() as transaction:
            registered = {path for (path,) in transaction.execute("SELECT path FROM files")}
    assert {
        path.relative_to(home / "klines").as_posix() for path in (home / "klines").glob("*/*")
    } == registered
