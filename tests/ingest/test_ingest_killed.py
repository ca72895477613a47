"""kill -9 in the middle of an ingest, again and again: each page is in the store whole or not at all."""

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

NOW = 1_735_700_000_000
MINUTE = 60_000
BARS = 40_000
START = NOW // MINUTE * MINUTE - BARS * MINUTE

# Says how many bars it was told are durable, so that none of those may be missing afterwards.
WORKER = """
import sys
from pathlib import Path
from market import ingest_writer
from market.ingest import ingest_sync
from market.store import KlineStore
ingest_writer._GATHER_S = 0.02  # small batches, so that there is a middle to be killed in
url, home, start, *symbols = sys.argv[1:]
with KlineStore.open(Path(home)) as store:
    ingest_sync(url, store, symbols, ["1m"], start=int(start),
                progress=lambda progress: print(progress.done, flush=True))
"""


def test_killed_at_random_moments_then_completed(tmp_path: Path) -> None:
    moments = random.Random(7)
    home = tmp_path / "killed"
    with start_exchange(symbols=3, seed=3, now=NOW, speed=0, weight_limit=0) as exchange:
        symbols = list(exchange.info()["symbols"])
        with KlineStore.open(tmp_path / "whole") as whole:
            ingest_sync(exchange.url, whole, symbols, ["1m"], start=START)
            wanted = whole.scan("1m").collect()
            ledger = whole.gaps("1m")
        settled_before = 0
        for _ in range(3):
            exchange.clear_faults()
            exchange.add_fault(path="/api/v3/klines", latency_ms=60, count=None)
            command = [sys.executable, "-c", WORKER, exchange.url, str(home), str(START), *symbols]
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert worker.stdout is not None
            assert worker.stdout.readline().strip() == "0"
            worker.stdout.readline()  # a first page is durable
            time.sleep(moments.uniform(0.0, 0.12))
            worker.send_signal(signal.SIGKILL)
            said, _ = worker.communicate()
            told = max([int(line) for line in said.split() if line.isdigit()], default=0)
            with KlineStore.open(home) as store:
                stored = store.scan("1m").collect()
                absent = ((pl.col("end_time") - pl.col("start_time")) // MINUTE).sum()
                settled = stored.height + store.gaps("1m").select(absent).item()
            assert stored.join(wanted, on=wanted.columns, how="anti", nulls_equal=True).is_empty()
            assert stored.select("symbol", "open_time").is_duplicated().sum() == 0
            assert settled >= settled_before + told, "what was told to be durable is"
            settled_before = settled
        assert 0 < settled_before < 3 * BARS, "it was killed in the middle"
        exchange.clear_faults()
        with KlineStore.open(home) as store:
            ingest_sync(exchange.url, store, symbols, ["1m"], start=START)
            assert store.scan("1m").collect().equals(wanted)
            assert store.gaps("1m").drop("checked_time").equals(ledger.drop("checked_time"))
