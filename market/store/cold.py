"""Cold bars: immutable Parquet files, one for each interval and day, and the manifest that names them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from market.errors import MarketError
from market.klines import KLINE_COLUMNS
from market.store.bars import Bars, none, pack, unpack
from market.store.database import Transaction
from market.store.schema import FILES, RETIRED, SCHEMA_VERSION

DAY_MS: Final = 86_400_000
FILE_COLUMNS: Final[tuple[str, ...]] = ("symbol", "kline_interval", *KLINE_COLUMNS)
"""Columns of a Parquet file, sorted by symbol and open_time."""

_ROW_GROUP: Final = 50_000
_DELTA: Final = dict.fromkeys(("open_time", "close_time", "trades"), "DELTA_BINARY_PACKED")


@dataclass(frozen=True)
class DayFile:
    """A row of the manifest: a file with all bars of an interval that open in [start_time, end_time)."""

    kline_interval: str
    start_time: int
    end_time: int
    path: str
    rows: int
    bytes: int
    sha256: str
    schema_version: int
    created_at: int


def files(transaction: Transaction, interval: str | None, start: int, end: int) -> list[DayFile]:
    """Return the registered files that overlap [start, end), by interval and time; None: of all intervals."""
    chosen, parameters = ("", ()) if interval is None else (" AND kline_interval = ?", (interval,))
    rows = transaction.execute(
        f"SELECT {', '.join(FILES.columns)} FROM files WHERE end_time > ? AND start_time < ?{chosen}"  # noqa: S608
        " ORDER BY kline_interval, start_time",
        (start, end, *parameters),
    )
    return [DayFile(*row) for row in rows]


def register(transaction: Transaction, new: DayFile, old: DayFile | None) -> None:
    """Make a file part of the store in place of another, which stays on disk for a while for its readers."""
    transaction.delete(RETIRED, [(new.path,)])
    transaction.upsert(FILES, [tuple(getattr(new, name) for name in FILES.columns)])
    if old is not None and old.path != new.path:
        transaction.upsert(RETIRED, [(old.path, now_ms())])


def now_ms() -> int:
    """Return this machine's time, ms since the epoch; it dates files, never bars."""
    return time.time_ns() // 1_000_000


class ColdFiles:
    """The folder of Parquet files.

    Parameters
    ----------
    folder : Path
        ``home/klines``; files lie in it as ``<interval>/<YYYY-MM-DD>-<hash>.parquet``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, interval: str, day: int, bars: Bars, names: Mapping[int, str]) -> DayFile:
        """Write the bars of a day into a file of its own, durable when this returns, not registered yet."""
        frame = unpack(bars, names, interval).sort("symbol", "open_time")
        frame = frame.with_columns(kline_interval=pl.lit(interval)).select(FILE_COLUMNS)
        folder = self.folder / interval
        _make_folder(folder)
        staged = folder / f".{day}-{os.getpid()}-{os.urandom(4).hex()}.tmp"
        try:
            with staged.open("wb") as stream:
                _write_parquet(frame, stream)
                stream.flush()
                os.fsync(stream.fileno())
            digest = sha256_of(staged)
            date = datetime.fromtimestamp(day / 1_000, UTC).date().isoformat()
            published = folder / f"{date}-{digest[:16]}.parquet"
            size = staged.stat().st_size
            staged.replace(published)
        finally:
            staged.unlink(missing_ok=True)
        _sync_folder(folder)
        path = published.relative_to(self.folder).as_posix()
        return DayFile(
            interval, day, day + DAY_MS, path, frame.height, size, digest, SCHEMA_VERSION, now_ms()
        )

    def locate(self, file: DayFile) -> Path:
        """Return where a registered file lies.

        Raises
        ------
        MarketError
            If it is not there, or of a newer version than this code can read.
        """
        path = self.folder / file.path
        if file.schema_version > SCHEMA_VERSION:
            raise MarketError(
                f"Parquet file of schema version {file.schema_version}, this code reads {SCHEMA_VERSION}",
                where=str(path),
                remedy="use the klinecast version that wrote it, or a newer one",
            )
        if not path.is_file():
            raise MarketError(
                f"{file.rows} bars of {file.kline_interval} are in a Parquet file that is not there",
                where=str(path),
                remedy="put the file back from a backup; table `files` of the store has its SHA-256",
            )
        return path

    def read(self, found: Iterable[DayFile], symbol_ids: Mapping[str, int], start: int, end: int) -> Bars:
        """Return the bars of these symbols in [start, end) from registered files, by open_time and symbol."""
        paths = [self.locate(file) for file in found]
        if not paths:
            return none()
        frame = (
            pl.scan_parquet(paths, glob=False)
            .filter(
                pl.col("open_time").is_between(start, end, closed="left"),
                pl.col("symbol").is_in(list(symbol_ids)),
            )
            .collect()
        )
        return pack(frame, symbol_ids)

    def on_disk(self) -> list[Path]:
        """Return every published and every temporary file in the folder."""
        return [path for pattern in ("*/*.parquet", "*/.*.tmp") for path in self.folder.glob(pattern)]


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_parquet(frame: pl.DataFrame, stream: object) -> None:
    table: pa.Table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    table = table.replace_schema_metadata({"klinecast.schema_version": str(SCHEMA_VERSION)})
    pq.write_table(
        table,
        stream,
        row_group_size=_ROW_GROUP,
        compression="zstd",
        compression_level=3,
        use_dictionary=["symbol", "kline_interval"],
        column_encoding=_DELTA,
        write_statistics=True,
    )


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
