"""Cold bars: immutable Parquet files, on disk or in a bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from market.errors import MarketError
from market.intervals import interval_ms
from market.klines import KLINE_COLUMNS, STORED_SCHEMA
from market.store import manifest
from market.store.bars import Bars, none, pack
from market.store.manifest import DAY_MS, UNREGISTERED, ColdFile, NewFile
from market.store.objects import ObjectStore
from market.store.schema import SCHEMA_VERSION
from market.store.spans import Int64s
from market.wording import utc

FILE_COLUMNS: Final[tuple[str, ...]] = ("symbol", "kline_interval", *KLINE_COLUMNS)
"""Columns of a Parquet file, sorted by symbol and open_time."""

FILE_ROWS: Final = 4_000_000
"""No file gets more rows than this."""

ROW_GROUP: Final = 50_000
# Measured on recorded and simulated bars: of random digits, as quote volumes are, the split bytes are 7 % smaller
# and write faster; prices and volumes repeat, which zstd finds in plain floats only. More than the first level makes
# volumes smaller, prices hardly, and split bytes and differences not at all; the third level costs time only.
_ENCODING: Final = {
    **dict.fromkeys(("open_time", "close_time", "trades"), "DELTA_BINARY_PACKED"),
    **dict.fromkeys(("open", "high", "low", "close", "volume", "taker_buy_base"), "PLAIN"),
    **dict.fromkeys(("quote_volume", "taker_buy_quote"), "BYTE_STREAM_SPLIT"),
}
_LEVEL: Final = dict.fromkeys(FILE_COLUMNS, 1) | {"volume": 2, "taker_buy_base": 2}
_MOST_ROW_BYTES: Final = 160  # as numbers a row has 90; what is not written to takes no memory
_SLACK: Final = 1 << 20


class ColdFiles:
    """The Parquet files of a store.

    Parameters
    ----------
    objects : ObjectStore
        Where they rest; they are named ``<interval>/<YYYY-MM-DD>-<hash>.parquet``.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects

    def publish(self, interval: str, frame: pl.DataFrame, symbol_ids: Mapping[str, int]) -> NewFile:
        """Write bars into a file of their own, durable when this returns, not registered yet.

        Parameters
        ----------
        frame : pl.DataFrame
            `market.klines.STORED_SCHEMA`, sorted by symbol and open_time, close_time filled in; at least a row.
        """
        runs = frame["symbol"].rle().struct.unnest()
        names, counts = runs["value"], runs["len"].cast(pl.Int64).to_numpy()
        data = _encode(interval, frame, names, counts)
        digest = hashlib.sha256(data).hexdigest()
        opened = frame["open_time"].to_numpy()
        first, last = int(opened.min()), int(opened.max())
        date = datetime.fromtimestamp(first / 1_000, UTC).date().isoformat()
        path = f"{interval}/{date}-{digest[:16]}.parquet"
        self.objects.put(path, data)
        numbers = np.fromiter(map(symbol_ids.__getitem__, names.to_list()), np.int64, len(names))
        owned = manifest.days_of(numbers, counts, opened, interval_ms(interval))
        file = ColdFile(
            UNREGISTERED,
            interval,
            first - first % DAY_MS,
            last - last % DAY_MS + DAY_MS,
            path,
            frame.height,
            len(data),
            digest,
            SCHEMA_VERSION,
            manifest.now_ms(),
        )
        return NewFile(file, owned)

    def published(self, files: Iterable[NewFile]) -> bool:
        """Tell whether these files are still there: a cleaning takes one that waited too long."""
        return all(self.objects.exists(item.file.path) for item in files)

    def locate(self, file: ColdFile) -> str:
        """Return what Polars and DuckDB open a registered file by: a path, or the URL of an object.

        Raises
        ------
        MarketError
            If it is of a newer version than this code can read, or is not on this machine's disk as it was written.
        """
        uri = self.objects.uri(file.path)
        if file.schema_version > SCHEMA_VERSION:
            raise MarketError(
                f"Parquet file of schema version {file.schema_version}, this code reads {SCHEMA_VERSION}",
                where=uri,
                remedy="use the klinecast version that wrote it, or a newer one",
            )
        path = self.objects.local_path(file.path)
        if path is not None:
            with self.objects.explained(file.path):
                size = path.stat().st_size if path.is_file() else None
            if size is None:
                raise missing_file(file, uri)
            if size != file.bytes:
                raise damaged_file(file, uri, f"it has {size:,} bytes, the manifest {file.bytes:,}")
        return uri

    def scan(self, files: Iterable[ColdFile]) -> pl.LazyFrame:
        """Return registered files, at least one, as a lazy frame with `FILE_COLUMNS`, in the order given."""
        return pl.scan_parquet(
            [self.locate(file) for file in files],
            glob=False,
            storage_options=self.objects.storage_options,
        )

    def read(self, found: Sequence[ColdFile], symbol_ids: Mapping[str, int], start: int, end: int) -> Bars:
        """Return the bars of these symbols in [start, end) from registered files, by open_time and symbol."""
        if not found:
            return none()
        chosen = (
            self.scan(found)
            .select(STORED_SCHEMA.names())
            .filter(
                pl.col("open_time").is_between(start, end, closed="left"),
                pl.col("symbol").is_in(list(symbol_ids)),
            )
        )
        return pack(self.collect(chosen, found), symbol_ids)

    def collect(self, lazy: pl.LazyFrame, found: Sequence[ColdFile]) -> pl.DataFrame:
        """Return what a query on a `scan` of these files gives.

        Raises
        ------
        MarketError
            If the files cannot be read; it names the one that is damaged.
        """
        try:
            with self.objects.explained():
                return lazy.collect()
        except pl.exceptions.PolarsError as error:
            for file in found:
                if self.sha256_of(file) != file.sha256:
                    raise damaged_file(file, self.objects.uri(file.path), str(error)) from error
            raise

    def require_intact(self, found: Iterable[ColdFile]) -> None:
        """Refuse files that are not as they were written, before their bars go into new ones.

        A new SHA-256 would vouch for what is damaged, and the old file, whose name a backup has, would go.
        """
        for file in found:
            if (digest := self.sha256_of(file)) != file.sha256:
                where = self.objects.uri(file.path)
                raise damaged_file(file, where, f"its SHA-256 is {digest}, the manifest has {file.sha256}")

    def sha256_of(self, file: ColdFile) -> str:
        """Return the SHA-256 of a registered file's content, in hexadecimal."""
        self.locate(file)
        path = self.objects.local_path(file.path)
        if path is not None:
            with self.objects.explained(file.path):
                return sha256_of(path)
        if not self.objects.exists(file.path):
            raise missing_file(file, self.objects.uri(file.path))
        return hashlib.sha256(self.objects.get(file.path)).hexdigest()


def missing_file(file: ColdFile, where: str) -> MarketError:
    """Return the error for a registered file that is gone."""
    return MarketError(
        f"{file.rows} bars of {file.kline_interval} are in a Parquet file that is not there",
        where=where,
        remedy=_mend(file),
    )


def damaged_file(file: ColdFile, where: str, how: str) -> MarketError:
    """Return the error for a registered file that is not as it was written."""
    return MarketError(
        f"{file.rows} bars of {file.kline_interval} are in a Parquet file that is damaged: {how}",
        where=where,
        remedy=_mend(file),
    )


def _mend(file: ColdFile) -> str:
    days = " and ".join(utc(at)[:10] for at in (file.start_time, file.end_time))
    return (
        "put the file back from a backup (table `files` of the store has its SHA-256); without one, `klinecast remove`"
        f" the {file.kline_interval} bars of all its symbols between {days} and ingest them anew"
    )


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _encode(interval: str, frame: pl.DataFrame, names: pl.Series, counts: Int64s) -> memoryview:
    """Return a sorted frame as the bytes of a Parquet file."""
    table = _table(interval, frame, names, counts)
    room = pa.allocate_buffer(
        frame.height * _MOST_ROW_BYTES + _SLACK
    )  # one that grows would be copied each time
    buffer = pa.FixedSizeBufferWriter(room)
    with pq.ParquetWriter(
        buffer,
        table.schema,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=["symbol", "kline_interval"],
        column_encoding=_ENCODING,
        store_schema=False,
    ) as writer:
        at = 0
        for rows in _row_groups(counts.tolist()):
            writer.write_table(table.slice(at, rows), row_group_size=rows)
            at += rows
        writer.add_key_value_metadata({"klinecast.schema_version": str(SCHEMA_VERSION)})
    return memoryview(room)[: buffer.tell()]


def _table(interval: str, frame: pl.DataFrame, names: pl.Series, counts: Int64s) -> pa.Table:
    """Return a frame in Arrow, its texts as dictionaries: they are written without being looked at."""
    values = frame.drop("symbol").to_arrow(compat_level=pl.CompatLevel.oldest())
    codes = pl.Series(np.repeat(np.arange(len(names), dtype=np.int32), counts))
    texts = [  # from Polars, since pyarrow would load pandas to look at lists and arrays of numpy
        pa.DictionaryArray.from_arrays(codes.to_arrow(), _text(names)),
        pa.DictionaryArray.from_arrays((codes * 0).to_arrow(), _text(pl.Series([interval]))),
    ]
    table = pa.table([*texts, *values.columns], names=["symbol", "kline_interval", *values.column_names])
    return table.select(list(FILE_COLUMNS))


def _text(values: pl.Series) -> pa.Array:
    return values.to_arrow(compat_level=pl.CompatLevel.oldest())


def _row_groups(counts: Iterable[int]) -> Iterator[int]:
    """Cut rows into groups at the ends of symbols, so that a reader of one symbol reads little else."""
    held = 0
    for count in counts:
        if held and held + count > ROW_GROUP:
            yield held
            held = 0
        held += count
        while held > ROW_GROUP:
            yield ROW_GROUP
            held -= ROW_GROUP
    if held:
        yield held
