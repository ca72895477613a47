"""Several processes that write all the time: none starves."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from market.store import KlineStore

MakeBars = Callable[..., pl.DataFrame]

# Four forks of one process that has not used Polars yet write without a pause until told to stop; each tells how
# many writes it made and how long it had to wait for the slowest.
_WRITERS = """
import os, sys, time
from pathlib import Path
import polars as pl
from market.klines import STORED_SCHEMA
from market.store import KlineStore

home, url, seconds = Path(sys.argv[1]), sys.argv[2] or None, float(sys.argv[3])
workers = []
for number in range(4):
    hear, tell = os.pipe()
    if os.fork() == 0:
        with KlineStore.open(home, url) as store:
            os.write(tell, b"ready")
            while not (home / "go").exists():
                time.sleep(0.01)
            made, slowest, end = 0, 0.0, time.monotonic() + seconds
            while time.monotonic() < end:
                rows = [(f"W{number}", (made * 100 + i) * 60_000, 5.0, 6.0, 4.0, 5.0, 1.0, None, 1.0, 1, 0.5, 0.5)
                        for i in range(100)]
                frame = pl.DataFrame(rows, schema=STORED_SCHEMA, orient="row")
                begun = time.monotonic()
                store.write("1m", frame)
                slowest, made = max(slowest, time.monotonic() - begun), made + 1
        os.write(tell, f" {made} {slowest}".encode())
        os._exit(0)
    workers.append(hear)
for hear in workers:
    assert os.read(hear, 5) == b"ready"
(home / "go").touch()
for hear in workers:
    print(os.read(hear, 100).decode())
"""


def test_of_four_writers_none_starves(home: Path, database_url: str | None) -> None:
    KlineStore.open(home, database_url).close()
    done = subprocess.run(
        [sys.executable, "-c", _WRITERS, str(home), database_url or "", "1.5"],
        capture_output=True,
        text=True,
        timeout=120,
        env={"POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    writers = [line.split() for line in done.stdout.splitlines()]
    made = [int(count) for count, _ in writers]
    assert len(made) == 4 and min(made) >= max(made) / 3, writers
    with KlineStore.open(home, database_url) as store:
        assert dict(zip(*store.spans("1m").select("symbol", "rows").get_columns(), strict=True)) == {
            f"W{number}": 100 * count for number, count in enumerate(made)
        }
        assert store.verify() == []


def test_who_writes_again_at_once_does_not_push_in(home: Path, make_bars: MakeBars) -> None:
    """While one writes, another one waits; the first comes back at once and has its turn after the other."""
    with KlineStore.open(home) as store:
        order: list[str] = []

        def wait_and_write() -> None:
            with store._database.write("any"):
                order.append("the one that waited")

        for _ in range(5):
            order.clear()
            other = threading.Thread(target=wait_and_write)
            with store._database.write("any"):
                other.start()
                time.sleep(0.05)
            with store._database.write("any"):
                order.append("the one that came back")
            other.join()
            assert order == ["the one that waited", "the one that came back"]
