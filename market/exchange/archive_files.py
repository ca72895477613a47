"""Archive files of the built-in exchange: made when they are first asked for, the same bytes every time."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from market.archives.names import ArchiveFile
from market.archives.rows import HEADER
from market.exchange.clock import ExchangeClock
from market.exchange.source import KlineQuery, Market

WRONG_CHECKSUM: Final = "wrong_checksum"
TRUNCATED_ZIP: Final = "truncated_zip"
REWRITTEN: Final = "rewritten"
ARCHIVE_FAULTS: Final = (WRONG_CHECKSUM, TRUNCATED_ZIP, REWRITTEN)

_CACHE_BYTES: Final = 128 << 20
_STEP_MS: Final = 8 * 86_400_000  # the simulated market is made in blocks of eight days
_ALL: Final = 1 << 40  # no limit of rows
_LEVEL: Final = 1
_DATE: Final = (2020, 1, 1, 0, 0, 0)  # of the CSV in every zip, so that the same rows make the same bytes
_VOLUME: Final = 5


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A zip with its checksum, and how many rows are in it."""

    body: bytes
    sha256: str
    rows: int


class ArchiveShelf:
    """The archive files of a market, as far as they are out by the exchange's clock.

    Parameters
    ----------
    market, clock
        What is served, and the time that it lives in.
    """

    def __init__(self, market: Market, clock: ExchangeClock) -> None:
        self._market, self._clock = market, clock
        self._kept: OrderedDict[tuple[str, str | None], MadeFile] = OrderedDict()
        self._kept_bytes = 0
        self._being_made: dict[tuple[str, str | None], asyncio.Task[MadeFile | None]] = {}

    async def find(self, file: ArchiveFile, fault: str | None) -> MadeFile | None:
        """Return a file, as `fault` has it; None where it is not out yet, or has no bar in it."""
        key = file.path, fault if fault in (TRUNCATED_ZIP, REWRITTEN) else None
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        now = self._clock.now()
        if now < file.published_time or not self._has(file, now):
            return None
        if key not in self._being_made:  # its checksum and itself may be asked for at once
            self._being_made[key] = asyncio.create_task(self._make(key, file, now))
        try:
            return await asyncio.shield(self._being_made[key])
        finally:
            self._being_made.pop(key, None)

    def _has(self, file: ArchiveFile, now: int) -> bool:
        return self._market.serves(file.interval) and self._market.instrument(file.symbol, now) is not None

    async def _make(self, key: tuple[str, str | None], file: ArchiveFile, now: int) -> MadeFile | None:
        """Make a file a block at a time, so that nobody else waits for longer than for a page of klines."""
        pieces, rows = [], 0
        for start in range(file.start_time, file.end_time, _STEP_MS):
            end = min(start + _STEP_MS, file.end_time)
            query = KlineQuery(file.symbol, file.interval, start, end - 1, _ALL, file.microseconds)
            page = self._market.klines(query, now)
            if page.rows:
                pieces.append(page.body)
                rows += page.rows
            await asyncio.sleep(0)
        if not rows:
            return None
        made = await asyncio.to_thread(_pack, file, pieces, rows, key[1])
        self._keep(key, made)
        return made

    def _keep(self, key: tuple[str, str | None], made: MadeFile) -> None:
        if key not in self._kept:
            self._kept[key] = made
            self._kept_bytes += len(made.body)
        while self._kept_bytes > _CACHE_BYTES and len(self._kept) > 1:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1].body)


def _pack(file: ArchiveFile, pages: list[bytes], rows: int, fault: str | None) -> MadeFile:
    """Turn pages of klines (JSON) into the CSV that archives have, and that into a zip."""
    csv = b"".join(page[2:-2].replace(b"],[", b"\n").translate(None, b'"') + b"\n" for page in pages)
    if fault == REWRITTEN:
        csv = _revise(csv)
    if file.market != "spot":
        csv = HEADER.encode() + b"\n" + csv
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(file.csv_name, _DATE)
        entry.create_system = 3  # as on Unix, wherever this runs
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, csv, zipfile.ZIP_DEFLATED, _LEVEL)
    body = buffer.getvalue()
    if fault == TRUNCATED_ZIP:
        body = body[: len(body) // 2]
    return MadeFile(body, hashlib.sha256(body).hexdigest(), rows)


def _revise(csv: bytes) -> bytes:
    """Return the CSV with one more unit of volume in its first bar."""
    first, newline, rest = csv.partition(b"\n")
    fields = first.split(b",")
    fields[_VOLUME] = f"{float(fields[_VOLUME]) + 1:.8f}".encode()
    return b",".join(fields) + newline + rest
