"""Where a command writes and whom it asks: narrow terminals, pipes that end, disks that are full, Ctrl-C."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from assets.clock import record_clock
from market.store import GAP_SCHEMA, KlineStore
from tests.quality.test_command_line import REPOSITORY, prediction
from tests.quality.test_consistency import simulated


@pytest.mark.parametrize("command", ["predictions", "status", "gaps"])
def test_a_narrow_terminal_cuts_nothing(klinecast, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    with KlineStore.open(klinecast.home) as store:
        store.write(
            "1m", simulated()[0].with_columns(symbol=pl.col("symbol").replace({"S0": "ALONGNAMEUSDT"}))
        )
        gap = ("ALONGNAMEUSDT", 7_200_000, 7_800_000, "outage", 1)
        store.record_gaps("1m", pl.DataFrame([gap], schema=GAP_SCHEMA, orient="row"))
        store.write_predictions(prediction("ALONGNAMEUSDT"))
    record_clock(klinecast.home, 1, 0.0)
    monkeypatch.setenv("COLUMNS", "40")
    narrow = klinecast(command).out
    assert "…" not in narrow and "1970-01-01 00:00" in narrow
    monkeypatch.setenv("COLUMNS", "200")
    table = [line for line in klinecast(command).out.splitlines() if "1970-01-01 0" in line and "  " in line]
    assert {line.rstrip() for line in table if "clock" not in line} <= {
        line.rstrip() for line in narrow.splitlines()
    }


def test_a_pipe_that_takes_nothing_more_is_no_defect(klinecast) -> None:
    """Neither one that its reader has closed nor a full disk."""
    command = [sys.executable, "-m", "orchestration.cli", "settings"]
    ours, theirs = os.pipe()
    os.close(ours)
    closed = subprocess.run(
        command, cwd=REPOSITORY, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(theirs)
    assert closed.stderr == ""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1 and done.stderr.startswith(
        "klinecast: the output cannot be written: No space left"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("key", [b"\x03", b"\x04"])
def test_ctrl_c_and_the_end_of_input_mean_no(key: bytes) -> None:
    """Polars, which every command has loaded when it asks, would let a read go on after Ctrl-C."""
    code = (
        "import polars; from orchestration.cli.asking import agreed;"
        "print('said', agreed('remove it?', command='x', otherwise='y'))"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(REPOSITORY)
        os.execv(sys.executable, [sys.executable, "-c", code])
    said = b""
    try:
        while b"[y/N]" not in said:
            said += os.read(terminal, 1_024)
        time.sleep(0.2)  # it has said so, and is about to read
        os.write(terminal, key)
        while b"said False" not in said:
            assert select.select([terminal], [], [], 60)[0], "it goes on waiting"
            said += os.read(terminal, 1_024)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
