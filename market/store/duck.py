"""The analysts' door: a DuckDB connection in memory with the store's tables as views of one moment."""

# ruff: noqa: S608 - the SQL holds only names of ours and quoted URLs
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import duckdb
import polars as pl

from market.klines import KLINE_COLUMNS, STORED_SCHEMA
from market.store.bars import unpack
from market.store.cold import FILE_COLUMNS, ColdFiles
from market.store.duck_files import SCHEME, SnapshotFiles
from market.store.manifest import ColdFile
from market.store.reading import Snapshot

_KLINES: Final = ", ".join(("symbol", "kline_interval", *KLINE_COLUMNS))


def connect(
    snapshots: Sequence[Snapshot], files: ColdFiles, frames: Mapping[str, pl.DataFrame]
) -> duckdb.DuckDBPyConnection:
    """Return a connection with view `klines` and one view for each of `frames`."""
    connection = duckdb.connect()
    try:
        registered = [file for snapshot in snapshots for file in snapshot.files]
        connection.register_filesystem(SnapshotFiles(files.objects, registered))
        connection.register("klines_hot", _hot(snapshots).to_arrow())
        connection.execute(f"CREATE VIEW klines AS {_klines_query(snapshots, files)}").fetchall()
        for name, frame in frames.items():
            connection.register(name, frame.to_arrow())
        _shut(connection, [_url(files, file) for file in registered])
    except BaseException:
        connection.close()
        raise
    return connection


def _shut(connection: duckdb.DuckDBPyConnection, urls: list[str]) -> None:
    """Keep queries away from every file but those of the views, which `SnapshotFiles` lets nobody write."""
    for setting in (
        "temp_directory = ''",
        f"allowed_paths = {_quoted(urls)}",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


def _hot(snapshots: Sequence[Snapshot]) -> pl.DataFrame:
    frames = [
        unpack(snapshot.hot, snapshot.names, snapshot.interval)
        .with_columns(kline_interval=pl.lit(snapshot.interval))
        .select(FILE_COLUMNS)
        for snapshot in snapshots
    ]
    if not frames:
        return pl.DataFrame(schema={**STORED_SCHEMA, "kline_interval": pl.String()}).select(FILE_COLUMNS)
    return pl.concat(frames)


def _klines_query(snapshots: Sequence[Snapshot], files: ColdFiles) -> str:
    whole: list[str] = []
    corrected: list[str] = []
    for snapshot in snapshots:
        newest, others = snapshot.parted()
        whole += [_url(files, file) for file in newest]
        corrected += [_url(files, file) for file in others]
    parts = [f"SELECT {_KLINES} FROM klines_hot"]
    if whole:
        parts.append(f"SELECT {_KLINES} FROM {_read(whole)}")
    if corrected:
        parts.append(
            f"SELECT {_KLINES} FROM {_read(corrected)} AS cold"
            " WHERE NOT EXISTS (SELECT 1 FROM klines_hot AS hot"
            " WHERE hot.symbol = cold.symbol AND hot.kline_interval = cold.kline_interval"
            " AND hot.open_time = cold.open_time)"
        )
    return " UNION ALL ".join(parts)


def _read(urls: list[str]) -> str:
    return f"read_parquet({_quoted(urls)})"


def _url(files: ColdFiles, file: ColdFile) -> str:
    files.locate(file)  # tells of a file that is gone or too new, before a query does
    return SCHEME + file.path


def _quoted(urls: list[str]) -> str:
    return "[" + ", ".join("'" + url.replace("'", "''") + "'" for url in urls) + "]"
