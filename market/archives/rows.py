"""From an archive's CSV to bars that may be stored, and the rows that may not.

Nearly every file is sound from its first to its last row: the scanner reads those in one go. A file with anything else
in it is read again, row by row, to say what is wrong with which row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import polars as pl

from market.archives.errors import ArchiveFileError
from market.archives.names import ArchiveFile
from market.kline_scan import scan_csv
from market.klines import KLINE_COLUMNS, KLINE_SCHEMA, STORED_SCHEMA, validate
from market.page_verdict import REFUSED_SCHEMA
from market.wire import read_rows

Unit = Literal["ms", "us", "mixed"]

_MICROSECONDS: Final = 100_000_000_000_000
"""A time from here on is in µs: as ms it would lie in the year 5138, and 1e14 µs lie in 1973."""

HEADER: Final = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)
"""What the files of futures begin with."""

_WHOLE: Final = re.compile(r"-?\d{1,19}", re.ASCII)
_TIMES: Final = ("open_time", "close_time")


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What an archive file holds.

    Attributes
    ----------
    good : pl.DataFrame
        Bars that may be stored (`market.klines.STORED_SCHEMA`), sorted; times in ms.
    refused : pl.DataFrame
        The other rows with their reason and text (`market.page_verdict.REFUSED_SCHEMA`).
    rows : int
        Rows in the file.
    unit : "ms", "us" or "mixed"
        Unit of its times. "mixed": each row is taken in its own.
    header : bool
        Whether it names its columns.
    """

    good: pl.DataFrame
    refused: pl.DataFrame
    rows: int
    unit: Unit
    header: bool


def parse(file: ArchiveFile, csv: bytes) -> ParsedFile:
    """Read the CSV of an archive file.

    Raises
    ------
    ArchiveFileError
        If it is no CSV of klines of this symbol's interval and span: an unknown header, or no row that could be
        stored.
    """
    header = _has_header(file, csv)
    frame = _read_at_once(csv, header)
    if frame is not None and (found := _in_milliseconds(frame)) is not None:
        times, unit = found
        good, refused = validate(times, file.interval)
        if refused.is_empty() and _inside(good, file):
            return ParsedFile(_named(good, file), REFUSED_SCHEMA.to_frame(), good.height, unit, header)
    return _read_row_by_row(file, csv, header)


def _has_header(file: ArchiveFile, csv: bytes) -> bool:
    first = csv[:400].split(b"\n", 1)[0].rstrip(b"\r").decode("ascii", "replace")
    if not csv or csv.isspace():
        raise _not_klines(file, "it is empty")
    if first[:1].isdecimal():
        return False
    if first.lower() == HEADER:
        return True
    raise _not_klines(file, f"its first line is {first[:80]!r}, neither a kline nor the header of klines")


def _read_at_once(csv: bytes, header: bool) -> pl.DataFrame | None:
    """Return all rows with times as they are written; None where anything is not as it should be."""
    columns = scan_csv(csv.partition(b"\n")[2] if header else csv)
    return None if columns is None else columns.frame()


def _in_milliseconds(frame: pl.DataFrame) -> tuple[pl.DataFrame, Unit] | None:
    """Return rows with times in ms and the unit that all of them had; None if none is, or µs are not whole ms."""
    opened, closed = (
        frame[name].to_numpy() for name in _TIMES
    )  # numpy: on columns this short, half of the work
    if max(opened.max(), closed.max()) < _MICROSECONDS:
        return frame, "ms"
    opens, closes = opened // 1_000, closed // 1_000
    whole = (opens * 1_000 == opened).all() and (closes * 1_000 + 999 == closed).all()
    if not whole or min(opened.min(), closed.min()) < _MICROSECONDS:
        return None
    return frame.with_columns(pl.Series("open_time", opens), pl.Series("close_time", closes)), "us"


def _inside(good: pl.DataFrame, file: ArchiveFile) -> bool:
    opens = good["open_time"]
    return bool(opens[0] >= file.start_time and opens[-1] < file.end_time)


def _named(good: pl.DataFrame, file: ArchiveFile) -> pl.DataFrame:
    symbol = pl.Series("symbol", [file.symbol], dtype=pl.String).new_from_index(0, good.height)
    return pl.DataFrame([symbol, *good.get_columns()], schema=STORED_SCHEMA)


def _read_row_by_row(file: ArchiveFile, csv: bytes, header: bool) -> ParsedFile:
    lines = csv.decode("utf-8", "replace").removesuffix("\n").split("\n")[int(header) :]
    lines = [line.removesuffix("\r") for line in lines]
    if not any(lines):
        raise _not_klines(file, "it has no rows")
    readable, malformed = read_rows([_as_on_the_wire(line) for line in lines])
    unread = {row.position for row in malformed}
    texts = [line for position, line in enumerate(lines) if position not in unread]
    timed, unit = _each_in_its_unit(readable, file)
    late = timed.filter(pl.col("reason").is_not_null())
    good, judged = validate(timed.filter(pl.col("reason").is_null()).drop("reason"), file.interval)
    if good.is_empty():
        reasons = [row.reason for row in malformed] + late["reason"].to_list() + judged["reason"].to_list()
        raise _not_klines(file, f"not one of its {len(lines):,} rows is one; the first: {reasons[0]}")
    raw = _texts_of(timed, texts, late) + _texts_of(timed, texts, judged)
    read = pl.concat([late, judged]).with_columns(pl.Series("raw", raw, pl.String))
    unreadable = pl.DataFrame(
        [(row.open_time, row.reason, lines[row.position]) for row in malformed],
        schema={"open_time": pl.Int64(), "reason": pl.String(), "raw": pl.String()},
        orient="row",
    )
    refused = pl.concat([read, unreadable], how="diagonal").select(
        pl.lit(file.symbol).alias("symbol"), *KLINE_COLUMNS, "reason", "raw"
    )
    return ParsedFile(_named(good, file), refused.cast(REFUSED_SCHEMA), len(lines), unit, header)


def _as_on_the_wire(line: str) -> list[Any]:
    """Return a line's fields as a REST answer has them: whole numbers for times and trades, text otherwise."""
    fields: list[Any] = line.split(",")
    for position, name in enumerate(KLINE_COLUMNS[: len(fields)]):
        if KLINE_SCHEMA[name] == pl.Int64 and _WHOLE.fullmatch(fields[position]):
            fields[position] = int(fields[position])
    return fields


def _each_in_its_unit(frame: pl.DataFrame, file: ArchiveFile) -> tuple[pl.DataFrame, Unit]:
    """Return rows with times in ms and the `reason` why a row's times cannot be taken, and their unit."""
    opened, closed = pl.col("open_time"), pl.col("close_time")
    micro = opened >= _MICROSECONDS
    marked = frame.with_columns(
        reason=pl.when(micro != (closed >= _MICROSECONDS))
        .then(pl.lit("open_time and close_time are not in the same unit"))
        .when(micro & ((opened % 1_000 != 0) | (closed % 1_000 != 999)))
        .then(pl.lit("open_time or close_time in µs is not on a whole ms"))
    )
    count = int(frame.select(micro.sum()).item() or 0)
    unit: Unit = "ms" if count == 0 else "us" if count == frame.height else "mixed"
    timed = marked.with_columns(
        pl.when(micro).then(opened // 1_000).otherwise(opened).alias("open_time")
    ).with_columns(
        pl.when(closed >= _MICROSECONDS).then(closed // 1_000).otherwise(closed).alias("close_time")
    )
    outside = ~opened.is_between(file.start_time, file.end_time, closed="left")
    named = pl.when(pl.col("reason").is_null() & outside).then(
        pl.lit(f"open_time is outside the {'day' if file.period == 'daily' else 'month'} of the file")
    )
    return timed.with_columns(reason=pl.coalesce("reason", named)), unit


def _texts_of(frame: pl.DataFrame, texts: Sequence[str], some: pl.DataFrame) -> list[str]:
    """Return the texts of `some` rows of a frame, which come in its order; `texts` has one for each row."""
    found: list[str] = []
    rows = zip(frame.select(KLINE_COLUMNS).iter_rows(), texts, strict=True)
    for wanted in some.select(KLINE_COLUMNS).iter_rows():
        found.append(next(text for row, text in rows if row == wanted))
    return found


def _not_klines(file: ArchiveFile, reason: str) -> ArchiveFileError:
    return ArchiveFileError(
        f"{file.csv_name} holds no {file.interval} klines of {file.symbol}: {reason}",
        where=file.path,
        remedy="nothing of this file was stored; its bars are asked for by REST",
    )
