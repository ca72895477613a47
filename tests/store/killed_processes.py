"""The processes that tests/store/test_store_killed.py kills, and what each of them writes.

Run as a program this is a zygote: it has imported everything once, and forks four workers for each round that it
is asked for on its standard input. It never computes with Polars itself, whose threads no fork survives.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.klines import STORED_SCHEMA
from market.store import KlineStore

T0, MINUTE = 1_700_006_400_000, 60_000
DAY = 1_440  # bars
SYMBOLS = tuple(f"K{i}USDT" for i in range(6))
LIVE_START, LIVE_BARS = 2 * DAY + 700, 40
LONGEST_S = 5.0
ROLES = ("live", "fill", "fix", "roll")
Rows = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Symbol and bar of each row, by number."""


def rows_of(role: str, number: int, settled: int, seed: int) -> Rows:
    """Return the rows of a role's write number `number`.

    Live writes go on in time, all symbols at once; the backfill goes by days and halves of the symbols, and so comes
    upon live bars and ahead of them; corrections pick bars before `settled`, which neither of these writes again.
    """
    if role == "live":
        bars = LIVE_START + number * LIVE_BARS + np.arange(LIVE_BARS)
        return _grid(np.arange(len(SYMBOLS)), bars)
    if role == "fill":
        half = len(SYMBOLS) // 2
        return _grid(np.arange(half) + number % 2 * half, number // 2 * DAY + np.arange(DAY))
    random = np.random.default_rng([seed, number])
    first = random.integers(0, settled - 20, 2)
    bars = np.unique(np.concatenate([at + np.arange(20) for at in first]))
    return _grid(np.sort(random.choice(len(SYMBOLS), 3, replace=False)), bars)


def _grid(symbols: NDArray[np.int64], bars: NDArray[np.int64]) -> Rows:
    return np.repeat(symbols, len(bars)), np.tile(bars, len(symbols))


def version_of(role: str, number: int) -> int:
    return number + 1 if role == "fix" else 0


def bars_of(rows: Rows, version: int | NDArray[np.int64]) -> pl.DataFrame:
    """Return bars whose every value follows from symbol, bar and version; `trades` is the version."""
    symbols, bars = rows
    versions = np.broadcast_to(np.asarray(version, np.int64), symbols.shape)
    close = 10 + (symbols * 7_919 + bars * 31 + versions * 101) % 9_973 / 1_000
    volume = 1.0 + (symbols + bars + versions) % 17
    open_time = T0 + bars * MINUTE
    return pl.DataFrame(
        {
            "symbol": np.array(SYMBOLS, dtype=object)[symbols],
            "open_time": open_time,
            "open": close - 0.25,
            "high": close + 0.5,
            "low": close - 0.5,
            "close": close,
            "volume": volume,
            "close_time": open_time + MINUTE - 1,
            "quote_volume": volume * close,
            "trades": np.array(versions),
            "taker_buy_base": volume / 2,
            "taker_buy_quote": volume * close / 2,
        },
        schema=STORED_SCHEMA,
    )


def _work(role: str, order: dict[str, Any], say: int) -> None:
    """Do a role's work until killed; say so after each write that has returned."""
    with KlineStore.open(Path(order["home"]), order["url"]) as store:
        os.write(say, b"ready\n")
        for number in range(order["next"].get(role, 0), 1_000_000):
            if role == "roll":
                whole = T0 + (order["settled"] // DAY * DAY if number % 2 else 40 * DAY) * MINUTE
                store.roll(whole)
                if number % 3 == 2:
                    store.compact(T0 + 400 * DAY * MINUTE)
            else:
                frame = bars_of(
                    rows_of(role, number, order["settled"], order["seed"]), version_of(role, number)
                )
                if order["sabotage"] == "early":  # acknowledged before it is durable
                    os.write(say, b"%d\n" % number)
                    time.sleep(0.02)
                store.write("1m", frame, bulk=role == "fill", trusted=role != "fix")
            if order["sabotage"] != "early":
                os.write(say, b"%d\n" % number)


def _tear_writes() -> None:
    """Break the store in this worker: a write becomes visible and durable in two parts."""
    from market.store import sqlite

    whole = sqlite.SqliteTransaction.put_bars

    def put_in_halves(self: Any, interval: str, bars: Any) -> None:
        whole(self, interval, bars[: len(bars) // 2])
        self._connection.execute("COMMIT")
        time.sleep(0.02)
        self._connection.execute("BEGIN IMMEDIATE")
        whole(self, interval, bars[len(bars) // 2 :])

    sqlite.SqliteTransaction.put_bars = put_in_halves  # type: ignore[method-assign]


def _start(role: str, order: dict[str, Any]) -> tuple[int, int]:
    """Fork a worker; returns its process id and the end of the pipe on which it speaks."""
    hear, say = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            if order["sabotage"] == "torn":
                _tear_writes()
            _work(role, order, say)
        except BaseException:
            os.write(say, b"failed " + traceback.format_exc().encode()[-4_000:])
        finally:
            os._exit(1)
    os.close(say)
    return process, hear


def _round(order: dict[str, Any]) -> dict[str, str]:
    """Start four workers, kill each at its moment, and return what each had said."""
    workers = {role: _start(role, order) for role in ROLES}
    of_pipe = {hear: role for role, (_, hear) in workers.items()}
    said = dict.fromkeys(ROLES, b"")
    begun = time.monotonic()
    ends = {role: begun + LONGEST_S for role in ROLES}
    for role in ROLES:
        _appoint(role, order, said, ends)
    while ends:
        moment = min(ends.values())
        for hear in select.select(list(of_pipe), [], [], max(0.0, moment - time.monotonic()))[0]:
            role = of_pipe[hear]
            if part := os.read(hear, 65_536):
                said[role] += part
                _appoint(role, order, said, ends)
            else:  # it failed, and has said why
                del of_pipe[hear]
                ends.pop(role, None)
        for role in [role for role, end in ends.items() if end <= time.monotonic()]:
            os.kill(workers[role][0], signal.SIGKILL)
            del ends[role]
    for role, (process, hear) in workers.items():
        os.waitpid(process, 0)
        while part := os.read(hear, 65_536):
            said[role] += part
        os.close(hear)
    return {role: text.decode() for role, text in said.items()}


def _appoint(role: str, order: dict[str, Any], said: dict[str, bytes], ends: dict[str, float]) -> None:
    """Fix the moment at which a worker dies: some time after it has said so many lines."""
    if role in ends and said[role].count(b"\n") >= order["after_lines"][role]:
        ends[role] = min(ends[role], time.monotonic() + order["and_seconds"][role])


if __name__ == "__main__":
    import pandas  # noqa: F401 - pyarrow loads it when it writes a file, and each worker would anew

    for line in sys.stdin:
        sys.stdout.write(json.dumps(_round(json.loads(line))) + "\n")
        sys.stdout.flush()
