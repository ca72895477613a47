"""Get archive files into the store: several are fetched and read at once, one task writes them, many at a time."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from market.archives.client import ArchiveClient
from market.archives.errors import NotInArchiveError
from market.archives.plan import WantedFile
from market.archives.report import ArchiveFailure, FileTally, Outcome, TransferReport
from market.archives.rows import ParsedFile, parse
from market.archives.unzip import unzip
from market.client_errors import ExchangeError, RetriesExhaustedError
from market.ingest_writer import revisions
from market.store import KlineStore
from market.store.archived import ArchivedFile

logger = logging.getLogger(__name__)

BATCH_ROWS: Final = 500_000
"""Bars that become durable together: fewer, larger Parquet files, and few waits for the disk."""

_EXHAUSTED_IN_A_ROW: Final = 3
_FOR_EVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class _Read:
    """A file that is ready to be stored."""

    wanted: WantedFile
    parsed: ParsedFile
    sha256: str
    zip_bytes: int

    @property
    def rewritten(self) -> bool:
        known = self.wanted.known
        return known is not None and not known.absent and known.sha256 != self.sha256

    @property
    def versions(self) -> int:
        known = self.wanted.known
        return 1 if known is None or known.absent else known.versions + self.rewritten

    def taken(self) -> pl.DataFrame:
        """Return the bars of the span that is to be taken."""
        opens = self.parsed.good["open_time"]
        low, high = opens.search_sorted(self.wanted.start), opens.search_sorted(self.wanted.end)
        return self.parsed.good.slice(low, high - low)

    def record(self, rows: int, now: int, stored_time: int) -> ArchivedFile:
        wanted = self.wanted
        return ArchivedFile(
            wanted.file.path,
            wanted.file.symbol,
            wanted.file.interval,
            wanted.start,
            wanted.end,
            self.sha256,
            rows,
            self.versions,
            stored_time,
            now,
        )


_Open = tuple[_Read, pl.DataFrame, FileTally]
"""A file, the bars to take from it, and what is told about it."""


async def transfer(
    archives: ArchiveClient,
    store: KlineStore,
    wanted: Sequence[WantedFile],
    now: int,
    report: TransferReport,
    on_done: Callable[[int, str], None],
) -> None:
    """Store what `wanted` files of one interval hold, and add to `report` what was done.

    A file counts as done when its bars are durable. What is killed on the way is known as unfinished in the table
    `archives`, and taken again. A file that cannot be trusted is a failure in the report; nothing of it is stored.

    Parameters
    ----------
    now : int
        The exchange's clock, ms.
    on_done : callable
        Called with (new bars, path) when a file is durable.

    Raises
    ------
    MarketError
        If the store cannot be written.
    """
    run = _Transfer(archives, store, now, report, on_done)
    await run.run(iter(wanted))


class _Transfer:
    """One run of `transfer`."""

    def __init__(
        self,
        archives: ArchiveClient,
        store: KlineStore,
        now: int,
        report: TransferReport,
        on_done: Callable[[int, str], None],
    ) -> None:
        self._archives, self._store, self._now = archives, store, now
        self._report, self._on_done = report, on_done
        self._readers = asyncio.Semaphore(os.cpu_count() or 1)
        # Waiting files are decompressed bars: few of them fill a batch, many would fill the memory.
        self._ready: asyncio.Queue[_Read | None] = asyncio.Queue(2 * archives.concurrency)
        self._failure: BaseException | None = None
        self._exhausted = 0

    async def run(self, waiting: Iterator[WantedFile]) -> None:
        writer = asyncio.create_task(self._write_all())
        workers = [
            asyncio.create_task(self._work(waiting)) for _ in range(max(self._archives.concurrency, 1))
        ]
        try:
            await asyncio.gather(*workers)
        finally:  # whatever has ended it: what has been read gets stored
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self._ready.put(None)
            await asyncio.shield(writer)
        if self._failure is not None:
            raise self._failure

    async def _work(self, waiting: Iterator[WantedFile]) -> None:
        for wanted in waiting:
            if self._report.host_failed or self._failure is not None:
                return
            try:
                await self._take(wanted)
                self._exhausted = 0
            except NotInArchiveError:
                self._exhausted = 0
                await self._note_absent(wanted)
            except ExchangeError as error:
                self._note_failure(wanted, error)

    async def _take(self, wanted: WantedFile) -> None:
        """Fetch and read one file and hand it to the writer, unless its checksum says that it is as before."""
        file, known = wanted.file, wanted.known
        sha256 = await self._archives.checksum(file)
        if wanted.reason == "changed" and known is not None and known.done and known.sha256 == sha256:
            await self._note(wanted, known.rows, sha256, known.versions, known.stored_time, "unchanged")
            return
        fetched = await self._archives.fetch(file, sha256)
        async with self._readers:
            parsed = await asyncio.to_thread(lambda: parse(file, unzip(file, fetched.body)))
        await self._ready.put(_Read(wanted, parsed, fetched.sha256, len(fetched.body)))

    async def _note_absent(self, wanted: WantedFile) -> None:
        known = wanted.known
        if known is not None and not known.absent:  # it was there once: what was taken from it stays
            await self._note(
                wanted, known.rows, known.sha256, known.versions, known.stored_time or self._now, "absent"
            )
        else:
            await self._note(wanted, 0, "", 0, 0, "absent")

    async def _note(
        self, wanted: WantedFile, rows: int, sha256: str, versions: int, stored: int, outcome: Outcome
    ) -> None:
        """Keep that a file was asked for and brought nothing new."""
        file = wanted.file
        row = ArchivedFile(
            file.path, file.symbol, file.interval, wanted.start, wanted.end, sha256, rows, versions, stored, self._now
        )  # fmt: skip
        await asyncio.to_thread(self._store.write_archives, [row])
        self._report.files.append(FileTally(file.path, file.symbol, file.interval, outcome))

    def _note_failure(self, wanted: WantedFile, error: ExchangeError) -> None:
        """Put a failure into the report; give the host up where it is the host that fails."""
        file = wanted.file
        logger.warning("%s: %s", file.path, error.what)
        if isinstance(error, RetriesExhaustedError):
            self._exhausted += 1
        if error.host_wide or self._exhausted >= _EXHAUSTED_IN_A_ROW:
            self._report.host_failed = True
        self._report.files.append(FileTally(file.path, file.symbol, file.interval, "failed"))
        self._report.failures.append(ArchiveFailure(file.path, error))

    async def _write_all(self) -> None:
        last = False
        while not last:
            batch, rows = [], 0
            while rows < BATCH_ROWS and not last:
                read = await self._ready.get()
                if read is None:
                    last = True
                else:
                    batch.append(read)
                    rows += read.parsed.good.height
            if batch and self._failure is None:
                try:
                    self._tell(await asyncio.to_thread(self._write, batch))
                except BaseException as failure:  # told to the workers, and raised at the end
                    self._failure = failure

    def _tell(self, tallies: list[FileTally]) -> None:
        for tally in tallies:
            self._report.files.append(tally)
            self._on_done(tally.inserted, tally.path)

    def _write(self, batch: list[_Read]) -> list[FileTally]:
        """Make the bars of some files durable (in a worker thread).

        First comes the note that they are being stored, then refused rows, then the bars, then the note that they
        are stored: whoever finds only the first note takes the file again.
        """
        batch = sorted(batch, key=lambda read: (read.wanted.file.symbol, read.wanted.start))
        takes = [read.taken() for read in batch]
        pairs = list(zip(batch, takes, strict=True))
        self._store.write_archives([read.record(bars.height, self._now, 0) for read, bars in pairs])
        for read in batch:
            self._quarantine(read)
        files = [(read, bars, self._tally(read)) for read, bars in pairs]
        self._write_lacking([file for file in files if not _takes_all(file[0])])
        for read, bars, tally in files:
            if _takes_all(read):
                self._write_over(read, bars, tally)
        self._store.write_archives([read.record(bars.height, self._now, self._now) for read, bars in pairs])
        return [tally for _, _, tally in files]

    def _tally(self, read: _Read) -> FileTally:
        file = read.wanted.file
        outcome: Outcome = "rewritten" if read.rewritten else "stored"
        refused = read.parsed.refused.height
        return FileTally(
            file.path,
            file.symbol,
            file.interval,
            outcome,
            rows=read.parsed.rows,
            refused=refused,
            zip_bytes=read.zip_bytes,
        )

    def _quarantine(self, read: _Read) -> None:
        if read.parsed.refused.height:
            source = f"{self._archives.base_url}/{read.wanted.file.path}"
            self._store.quarantine(read.wanted.file.interval, read.parsed.refused, source)

    def _write_lacking(self, files: list[_Open]) -> None:
        """Write the bars that the store lacks: in one transaction, where no two files span the same time."""
        while files:
            together, later = _apart(files)
            self._write_together(together)
            files = later

    def _write_together(self, files: list[_Open]) -> None:
        interval = files[0][0].wanted.file.interval
        start = min(read.wanted.start for read, _, _ in files)
        end = max(read.wanted.end for read, _, _ in files)
        symbols = [read.wanted.file.symbol for read, _, _ in files]
        absent = self._store.missing_many(symbols, interval, start, end, recheck_before=_FOR_EVER)
        parts = []
        for read, bars, tally in files:
            part = _within(bars, absent[read.wanted.file.symbol])
            tally.inserted, tally.unchanged = part.height, bars.height - part.height
            if part.height:
                parts.append(part)
        if parts:
            self._store.write(interval, pl.concat(parts), bulk=True, trusted=True)

    def _write_over(self, read: _Read, bars: pl.DataFrame, tally: FileTally) -> None:
        """Write all bars of a rewritten file, and see which stored ones it revises."""
        file = read.wanted.file
        span = read.wanted.start, read.wanted.end
        stored = self._store.scan(file.interval, [file.symbol], start=span[0], end=span[1]).collect()
        result = self._store.write(file.interval, bars, bulk=True, trusted=True)
        tally.inserted, tally.updated = result.rows_inserted, result.rows_updated
        tally.unchanged = result.rows_unchanged
        if result.rows_updated:
            logger.warning("%s was rewritten: it revises %d stored bars", file.path, result.rows_updated)
            revised = revisions(stored, bars, file.interval)
            self._report.revisions = pl.concat([self._report.revisions, revised])


def _takes_all(read: _Read) -> bool:
    """Tell whether stored bars are compared, too: a rewritten file may revise them."""
    known = read.wanted.known
    return read.rewritten or (known is not None and not known.done and known.versions > 1)


def _apart(
    files: list[_Open],
) -> tuple[list[_Open], list[_Open]]:
    """Part files, by symbol and start, into those that do not overlap the one before, and the others."""
    together, later = [], []
    reach: dict[str, int] = {}
    for file in files:
        wanted = file[0].wanted
        if wanted.start < reach.get(wanted.file.symbol, 0):
            later.append(file)
        else:
            together.append(file)
            reach[wanted.file.symbol] = wanted.end
    return together, later


def _within(bars: pl.DataFrame, spans: Sequence[tuple[int, int]]) -> pl.DataFrame:
    """Return the bars that open within spans, which ascend."""
    opens = bars["open_time"].to_numpy()
    edges = np.array(spans, np.int64).reshape(-1, 2)
    at = np.searchsorted(edges[:, 0], opens, side="right") - 1
    inside = (at >= 0) & (opens < edges[np.maximum(at, 0), 1]) if len(edges) else np.zeros(len(opens), bool)
    return bars if inside.all() else bars.filter(pl.Series(inside))
