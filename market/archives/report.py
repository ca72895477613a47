"""What was taken from an archive host: per file, and what could not be taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

import polars as pl

from market.client_errors import ExchangeError
from market.ingest_report import REVISION_SCHEMA

Outcome = Literal["stored", "rewritten", "unchanged", "absent", "failed"]


@dataclass(slots=True)
class FileTally:
    """What became of one archive file.

    Attributes
    ----------
    path, symbol, interval : str
        Which file, and whose bars.
    outcome : str
        "stored"; "rewritten": stored anew, since its checksum was another one than before; "unchanged": its checksum
        was the one before; "absent": the host does not have it; "failed".
    rows : int
        Rows in the file.
    inserted, updated, unchanged : int
        What became of the bars that were taken from it.
    refused : int
        Rows quarantined.
    zip_bytes : int
        Size of the zip.
    """

    path: str
    symbol: str
    interval: str
    outcome: Outcome
    rows: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    zip_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ArchiveFailure:
    """Why an archive file could not be taken; its bars are asked for by REST."""

    path: str
    error: ExchangeError


@dataclass(slots=True)
class TransferReport:
    """What a transfer did.

    Attributes
    ----------
    files : list of FileTally
        One for each file that was asked for.
    failures : list of ArchiveFailure
        Files that could not be taken.
    revisions : pl.DataFrame
        `market.ingest_report.REVISION_SCHEMA`: stored bars that a rewritten file has other values for.
    host_failed : bool
        Whether the archive host was given up on.
    """

    files: list[FileTally] = field(default_factory=list)
    failures: list[ArchiveFailure] = field(default_factory=list)
    revisions: pl.DataFrame = field(default_factory=REVISION_SCHEMA.to_frame)
    host_failed: bool = False

    def total(self, column: str) -> int:
        """Return the sum of a count over all files, e.g. ``report.total("inserted")``."""
        return sum(getattr(tally, column) for tally in self.files)

    def count(self, *outcomes: Outcome) -> int:
        """Return how many files came to one of these ends."""
        return sum(tally.outcome in outcomes for tally in self.files)

    def to_frame(self) -> pl.DataFrame:
        """Return one row per file, with the counts of `FileTally` and the failure if any."""
        failed = {failure.path: failure.error.what for failure in self.failures}
        rows = [{**asdict(tally), "failure": failed.get(tally.path)} for tally in self.files]
        return pl.DataFrame(rows, schema=_FILES_SCHEMA).rename({"interval": "kline_interval"})


_TEXTS = ("path", "symbol", "interval", "outcome")
_COUNTS = ("rows", "inserted", "updated", "unchanged", "refused", "zip_bytes")
_FILES_SCHEMA = {
    **dict.fromkeys(_TEXTS, pl.String()),
    **dict.fromkeys(_COUNTS, pl.Int64()),
    "failure": pl.String(),
}
