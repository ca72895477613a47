"""An archive host that serves a folder, as the real one does, and exchanges for these tests."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from market.archives.names import ArchiveFile
from market.exchange.launch import RunningExchange, start_exchange
from market.store import KlineStore

MARCH, APRIL, MAY, JUNE = (
    1_740_787_200_000,
    1_743_465_600_000,
    1_746_057_600_000,
    1_748_736_000_000,
)  # of 2025
DAY = 86_400_000


def row(open_time: int, length: int = 900_000, close: str = "1.5", *, factor: int = 1) -> str:
    """A sound CSV row; with `factor` 1000 its times are in µs."""
    closes = (open_time + length) * factor - 1
    return f"{open_time * factor},1.00000000,2.00000000,1.00000000,{close},9.5,{closes},13.25,7,4.5,6.25,0"


def month_csv(start: int, end: int, *, length: int = 900_000, without: tuple[int, ...] = ()) -> str:
    """The CSV of a span, in µs as spot files of 2025 are."""
    opens = (at for at in range(start, end, length) if at not in without)
    return "".join(row(at, length, factor=1_000) + "\n" for at in opens)


def zipped(name: str, csv: str | bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, csv)
    return buffer.getvalue()


class FileHost:
    """A folder behind a plain HTTP server on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Counter[str] = Counter()
        host = self

        class Handler(SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                host.asked[self.path.rpartition("/")[2]] += 1
                super().do_GET()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def put(self, file: ArchiveFile, csv: str | bytes, *, checksum: str | None = None) -> None:
        """Publish a file as the exchange does: the zip, and its checksum beside it."""
        self.put_zip(file, zipped(file.csv_name, csv), checksum=checksum)

    def put_zip(self, file: ArchiveFile, body: bytes, *, checksum: str | None = None) -> None:
        path = self.folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        digest = checksum or hashlib.sha256(body).hexdigest()
        path.with_name(f"{file.zip_name}.CHECKSUM").write_text(f"{digest}  {file.zip_name}\n")

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FileHost]:
    folder = tmp_path / "archive"
    folder.mkdir()
    running = FileHost(folder)
    yield running
    running.stop()


@pytest.fixture
def store(home: Path) -> Iterator[KlineStore]:
    with KlineStore.open(home) as opened:
        yield opened


@pytest.fixture(scope="module")
def exchange() -> Iterator[RunningExchange]:
    """The built-in exchange with three symbols; its clock stands still on 2025-06-10."""
    with start_exchange(symbols=3, seed=5, now=JUNE + 9 * DAY, speed=0, weight_limit=0) as running:
        yield running


@pytest.fixture
def served(exchange: RunningExchange) -> Iterator[RunningExchange]:
    """The same, with counters at zero and without faults before and after."""
    exchange.reset_counters()
    exchange.clear_faults()
    yield exchange
    exchange.clear_faults()
