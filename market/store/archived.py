"""Which archive files were asked for, what they held, and when their checksums were last looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Final

import polars as pl

from market.store.database import Transaction
from market.store.schema import ARCHIVES

ARCHIVE_SCHEMA: Final = pl.Schema(
    {
        "path": pl.String(),
        "symbol": pl.String(),
        "kline_interval": pl.String(),
        "start_time": pl.Int64(),
        "end_time": pl.Int64(),
        "sha256": pl.String(),
        "rows": pl.Int64(),
        "versions": pl.Int64(),
        "stored_time": pl.Int64(),
        "checked_time": pl.Int64(),
    }
)
"""Columns of the table `archives`; see `ArchivedFile`."""


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """One archive file that was asked for.

    Parameters
    ----------
    path : str
        On the archive host.
    symbol, kline_interval : str
        Whose bars.
    start_time, end_time : int
        Open times that were taken from it, or that it was asked for: [start, end), ms.
    sha256 : str
        Of the zip; empty where the host has no such file.
    rows : int
        Bars taken from it.
    versions : int
        How many times its content was taken: more than one where it was rewritten.
    stored_time : int
        When its bars were durable, ms on the exchange's clock; 0 while they are not (or never were).
    checked_time : int
        When its checksum was last asked for, ms on the exchange's clock.
    """

    path: str
    symbol: str
    kline_interval: str
    start_time: int
    end_time: int
    sha256: str
    rows: int
    versions: int
    stored_time: int
    checked_time: int

    @property
    def absent(self) -> bool:
        """Whether the host had no such file."""
        return not self.sha256

    @property
    def done(self) -> bool:
        """Whether what is to be had from it has been stored: a killed run leaves files that are not."""
        return self.absent or self.stored_time > 0


def write(transaction: Transaction, files: Sequence[ArchivedFile]) -> None:
    """Insert or replace what is known of some files."""
    transaction.upsert(ARCHIVES, [astuple(file) for file in files])


def read(
    transaction: Transaction,
    interval: str | None = None,
    symbols: Sequence[str] | None = None,
    start: int | None = None,
    end: int | None = None,
) -> list[ArchivedFile]:
    """Return the files that were asked for open times in [start, end), by path."""
    conditions = {"kline_interval = ?": interval, "end_time > ?": start, "start_time < ?": end}
    return _select(transaction, conditions, symbols)


def due(
    transaction: Transaction, interval: str, symbols: Sequence[str], now: int, recheck_after_ms: int
) -> list[ArchivedFile]:
    """Return the files whose checksum is to be asked for again, and those that a killed run left unfinished.

    The older a file's span was when its checksum was last looked at, the longer until the next look: at first after
    `recheck_after_ms`, for one that was a year old after another year.
    """
    again = {
        "kline_interval = ?": interval,
        "checked_time <= ?": now - recheck_after_ms,
        "2 * checked_time - end_time <= ?": now,
    }
    unfinished = {"kline_interval = ?": interval, "stored_time = ?": 0, "sha256 <> ?": ""}
    found = _select(transaction, again, symbols) + _select(transaction, unfinished, symbols)
    return list({file.path: file for file in found}.values())


def _select(
    transaction: Transaction, conditions: Mapping[str, object], symbols: Sequence[str] | None
) -> list[ArchivedFile]:
    asked = {condition: value for condition, value in conditions.items() if value is not None}
    rows = transaction.execute(
        f"SELECT {', '.join(ARCHIVE_SCHEMA)} FROM archives WHERE {' AND '.join(asked) or '1 = 1'}"  # noqa: S608
        " ORDER BY path",
        tuple(asked.values()),
    )
    wanted = None if symbols is None else set(symbols)
    return [ArchivedFile(*row) for row in rows if wanted is None or row[1] in wanted]


def frame(files: Sequence[ArchivedFile]) -> pl.DataFrame:
    """Return files as a frame (`ARCHIVE_SCHEMA`)."""
    return pl.DataFrame([astuple(file) for file in files], schema=ARCHIVE_SCHEMA, orient="row")
