"""What a user sees when something is wrong: one message, what and where and what to do, and no trace."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from market.exchange.launch import start_exchange
from market.store import KlineStore
from tests.pipeline.conftest import REPOSITORY

Told = Callable[[subprocess.CompletedProcess[str]], str]
NOW = 1_735_700_000_000


@pytest.fixture(scope="module")
def exchange() -> Iterator[str]:
    with start_exchange(port=0, symbols=3, seed=3, now=NOW, speed=0) as running:
        yield running.url


@pytest.fixture
def pointed(klinecast, exchange: str):
    klinecast.settings |= {"KLINECAST_EXCHANGE_URL": exchange, "KLINECAST_HISTORY_BARS": "500"}
    return klinecast


def fault(url: str, **what: object) -> None:
    request = urllib.request.Request(
        f"{url}/klinecast/v1/faults",
        json.dumps(what).encode(),
        {"Content-Type": "application/json"},
        method="POST",
    )
    urllib.request.urlopen(request).close()


def clear_faults(url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{url}/klinecast/v1/faults", method="DELETE")).close()


def test_unknown_interval(klinecast, told_plainly: Told) -> None:
    said = told_plainly(klinecast("run", "ingest", code=1, KLINECAST_INTERVALS="7m"))
    assert "'7m'" in said
    assert "KLINECAST_INTERVALS" in said


def test_unknown_job(klinecast, told_plainly: Told) -> None:
    assert "prediction_sweep" in told_plainly(klinecast("run", "injest", code=2))


def test_unknown_symbol(pointed, told_plainly: Told) -> None:
    said = told_plainly(pointed("run", "ingest", code=1, KLINECAST_SYMBOLS="BTCUSD"))
    assert "BTCUSD" in said
    assert "BTCUSDT" in said.replace("BTCUSD ", ""), "the near match is named"


def test_unreachable_exchange(klinecast, told_plainly: Told) -> None:
    said = told_plainly(klinecast("run", "ingest", code=1, KLINECAST_EXCHANGE_URL="http://127.0.0.1:9"))
    assert "127.0.0.1:9" in said


@pytest.mark.parametrize("status", [451, 403])
def test_a_host_that_refuses_us(pointed, exchange: str, told_plainly: Told, status: int) -> None:
    pointed("run", "ingest")
    with KlineStore.open(pointed.home) as store:
        before = store.scan("5m").collect()
    fault(exchange, status=status, count=100, path="/api/v3")
    try:
        said = told_plainly(pointed("run", "ingest", code=1))
    finally:
        clear_faults(exchange)
    assert str(status) in said
    with KlineStore.open(pointed.home) as store:
        assert store.scan("5m").collect().equals(before), "what was stored is still there"


def test_a_malformed_row_is_set_aside_and_the_rest_is_stored(pointed, exchange: str) -> None:
    open_time = NOW // 300_000 * 300_000 - 100 * 300_000
    fault(exchange, malformed_row=True, symbol="BTCUSDT", open_time=open_time)
    try:
        pointed("run", "ingest", KLINECAST_INTERVALS="5m")
    finally:
        clear_faults(exchange)
    with KlineStore.open(pointed.home) as store:
        aside = store.quarantined("5m")
        stored = store.scan("5m", symbols=["BTCUSDT"]).collect()
    assert aside["symbol"].to_list() == ["BTCUSDT"]
    assert aside["reason"][0]
    assert stored.filter(pl.col("open_time") == open_time).is_empty()
    assert stored.height >= 450


def test_a_home_that_cannot_be_written(klinecast, told_plainly: Told, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said = told_plainly(klinecast("run", "ingest", code=1, KLINECAST_HOME=str(tmp_path / "file" / "home")))
    assert "KLINECAST_HOME" in said


def test_a_full_disk(pointed, told_plainly: Told) -> None:
    pointed("run", "ingest")
    with KlineStore.open(pointed.home) as store:
        before = store.scan("5m").collect()
    # A limit on the size of any file stands for the end of the disk: writes fail in the same places.
    limit = 2**18 + max(path.stat().st_size for path in pointed.home.rglob("*") if path.is_file())
    code = (
        f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "sys.argv = ['klinecast', 'run', 'ingest']; runpy.run_module('orchestration.cli', run_name='__main__')"
    )
    said = told_plainly(pointed.python("-c", code, code=1, KLINECAST_HISTORY_BARS="20000"))
    assert "KLINECAST_HOME" in said or str(pointed.home) in said
    with KlineStore.open(pointed.home) as store:
        after = store.scan("5m").collect()
    assert after.join(before, on=after.columns, how="semi").height == before.height, (
        "what was stored is still there"
    )


def test_bars_of_two_markets_never_meet(pointed, told_plainly: Told) -> None:
    pointed("run", "ingest")
    with start_exchange(port=0, symbols=3, seed=4, now=NOW, speed=0) as other:
        said = told_plainly(pointed("run", "ingest", code=1, KLINECAST_EXCHANGE_URL=other.url))
    assert "another market" in said


def test_a_stage_before_its_inputs_says_which_to_run(klinecast, told_plainly: Told) -> None:
    assert "klinecast run ingest" in told_plainly(klinecast("run", "make_features", code=1))
    assert "klinecast run" in told_plainly(klinecast("run", "prediction_sweep", code=1))
    features, sweep = map(json.loads, (klinecast.home / "failures.jsonl").read_text().splitlines())
    assert (features["job"], sweep["job"]) == ("make_features", "prediction_sweep"), "without a daemon"
    (reason,) = features["reasons"]
    assert "\n  where: " in reason and "klinecast run ingest" in reason
    assert features["run_id"] != sweep["run_id"] and "failed" in features["message"]


def test_ctrl_c_ends_with_a_line_that_says_how_to_go_on(pointed, exchange: str) -> None:
    with urllib.request.urlopen(f"{exchange}/klinecast/v1/info") as answer:
        slow = json.load(answer)["symbols"][0]
    fault(exchange, path="/api/v3/klines", symbol=slow, latency_ms=3_000, count=None)
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "run", "ingest"],
        env=pointed.environment() | {"KLINECAST_HISTORY_BARS": "40000"},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not any(pointed.home.glob("klines/*/*.parquet")):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = "".join(process.communicate(timeout=120))
    finally:
        clear_faults(exchange)
    assert process.returncode == 130, said
    assert "run the same command again" in said
    assert "Traceback" not in said
    with KlineStore.open(pointed.home) as store:
        kept = int(store.spans()["rows"].sum())
    assert kept > 0
    pointed("run", "ingest", KLINECAST_HISTORY_BARS="40000")
    with KlineStore.open(pointed.home) as store:
        assert int(store.spans()["rows"].sum()) > kept
