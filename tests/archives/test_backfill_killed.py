"""kill -9 in the middle of a backfill, again and again: what is stored is sound, and the next run goes on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from market.exchange.launch import start_exchange
from market.ingest import ingest_sync
from market.store import KlineStore

from .conftest import APRIL, JUNE

# Each file is a batch of its own, so that there is a middle to be killed in.
WORKER = """
import sys
from pathlib import Path
from market.archives import transfer
from market.archives.client import ArchiveClient
from market.backfill import backfill
from market.client import ExchangeClient
from market.ingest import run_sync
from market.store import KlineStore
transfer.BATCH_ROWS = 1
url, home, start, *symbols = sys.argv[1:]
async def work():
    async with ExchangeClient(url) as client, ArchiveClient(url) as archives:
        say = lambda progress: print(progress.done, flush=True)
        with KlineStore.open(Path(home)) as store:
            await backfill(client, archives, store, symbols, ["15m"], start=int(start), progress=say)
print("0", flush=True)
run_sync(work)
"""


def test_killed_at_random_moments_then_completed(tmp_path: Path) -> None:
    moments = random.Random(11)
    home = tmp_path / "killed"
    with start_exchange(symbols=3, seed=5, now=JUNE + 8 * 86_400_000, speed=0, weight_limit=0) as exchange:
        symbols = list(exchange.info()["symbols"])
        with KlineStore.open(tmp_path / "whole") as whole:
            ingest_sync(exchange.url, whole, symbols, ["15m"], start=APRIL)
            wanted = whole.scan("15m").collect()
        exchange.add_fault(path="/data/", latency_ms=150, count=None)
        settled_before = 0
        for kill in range(3):
            command = [sys.executable, "-c", WORKER, exchange.url, str(home), str(APRIL), *symbols]
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert worker.stdout is not None
            next(
                (line for line in worker.stdout if int(line) > 0), None
            )  # a first file is durable, or all were
            time.sleep(moments.uniform(0.0, 0.1))
            worker.send_signal(signal.SIGKILL)
            said, _ = worker.communicate()
            told = max([int(line) for line in said.split()], default=0)
            with KlineStore.open(home) as store:
                stored = store.scan("15m").collect()
                assert store.verify() == []
                absent = ((pl.col("end_time") - pl.col("start_time")) // 900_000).sum()
                settled = stored.height + store.gaps("15m").select(absent).item()
            assert stored.join(wanted, on=wanted.columns, how="anti", nulls_equal=True).is_empty()
            assert stored.select("symbol", "open_time").is_duplicated().sum() == 0
            assert settled >= settled_before + told, "what was told to be durable is"
            settled_before = settled
            assert kill or 0 < settled < wanted.height, "it was killed in the middle"
        exchange.clear_faults()
        command = [sys.executable, "-c", WORKER, exchange.url, str(home), str(APRIL), *symbols]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with KlineStore.open(home) as store:
            assert store.scan("15m").collect().equals(wanted)
            assert all(file.done for file in store.archives())
            assert len([file for file in store.archives() if not file.absent]) >= 6
            assert store.verify() == []
