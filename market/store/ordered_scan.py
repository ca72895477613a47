"""Bars by symbol and open_time without sorting them all: files hold them in that order already, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import polars as pl

from market.errors import MarketError
from market.klines import STORED_COLUMNS, STORED_SCHEMA
from market.store import spans
from market.store.bars import unpack
from market.store.cold import ColdFiles
from market.store.manifest import ColdFile, Owners
from market.store.reading import Snapshot, cold_parts
from market.store.spans import TIME_LIMIT

_KEYS = ["symbol", "open_time"]
_ROWS_A_PIECE = 20_000  # pieces of fewer rows cost more to open than they cost to sort
_FEW_PIECES = 64


@dataclass(frozen=True)
class _Piece:
    """Symbols that follow each other in the result, and the files that hold their bars, one after the other in time.

    Parameters
    ----------
    whole : bool
        These are all symbols of the one file.
    mixed : bool
        The files lie across each other in time, or hot bars lie among the cold ones: these must be sorted.
    """

    symbols: list[str]
    files: tuple[ColdFile, ...]
    whole: bool
    mixed: bool


def scan(
    snapshot: Snapshot,
    cold_files: ColdFiles,
    owners: Owners,
    symbols: Sequence[str] | None,
    columns: Sequence[str] | None,
) -> pl.LazyFrame:
    """Return a snapshot's bars as a lazy frame by symbol and open_time; files are read on collect.

    Parameters
    ----------
    owners : Owners
        Which files hold the snapshot's days, from the same transaction.
    """
    wanted = list(STORED_COLUMNS if columns is None else columns)
    if unknown := [name for name in wanted if name not in STORED_COLUMNS]:
        raise MarketError(
            f"no column {', '.join(map(repr, unknown))} in klines",
            where="columns",
            remedy=f"choose from {', '.join(STORED_COLUMNS)}",
        )
    hot = unpack(snapshot.hot, snapshot.names, snapshot.interval)
    return _in_order(snapshot, cold_files, owners, hot, symbols).select(wanted)


def _in_order(
    snapshot: Snapshot,
    cold_files: ColdFiles,
    owners: Owners,
    hot: pl.DataFrame,
    symbols: Sequence[str] | None,
) -> pl.LazyFrame:
    pieces = _pieces(snapshot, owners, hot, symbols)
    opened = sum(len(piece.files) for piece in pieces)
    if opened > max(_FEW_PIECES, sum(file.rows for file in snapshot.files) // _ROWS_A_PIECE):
        return _sorted(snapshot, cold_files, hot, symbols)
    recent = {str(name): rows for (name,), rows in hot.sort(_KEYS).group_by("symbol", maintain_order=True)}
    parts = []
    for together, group in groupby(
        pieces, lambda piece: piece.whole and not recent.keys() & set(piece.symbols)
    ):
        run = list(group)
        if together:  # the files of a compacted store hold one range of symbols after the other
            parts.append(_cold(snapshot, cold_files, [file for piece in run for file in piece.files]))
        else:
            parts += [part for piece in run for part in _parts(snapshot, cold_files, piece, recent)]
    return pl.concat(parts) if parts else hot.clear().lazy()


def _sorted(
    snapshot: Snapshot, cold_files: ColdFiles, hot: pl.DataFrame, symbols: Sequence[str] | None
) -> pl.LazyFrame:
    parts = cold_parts(snapshot, cold_files, hot)
    if symbols is not None:
        chosen = pl.col("symbol").is_in(list(dict.fromkeys(symbols)))
        parts = [part.filter(chosen) for part in parts]
    return pl.concat([*parts, hot.lazy()]).sort(_KEYS)


def _pieces(
    snapshot: Snapshot, owners: Owners, hot: pl.DataFrame, symbols: Sequence[str] | None
) -> list[_Piece]:
    files = {file.file_id: file for file in snapshot.files}
    numbers, first = spans.unplace(owners.spans[:, 0])
    held = np.isin(owners.file_ids, np.array(list(files), np.int64))
    cold: dict[str, list[tuple[int, int]]] = {}
    for number, start, file_id in zip(
        numbers[held].tolist(), first[held].tolist(), owners.file_ids[held].tolist(), strict=True
    ):
        cold.setdefault(snapshot.names[number], []).append((start, file_id))
    content: dict[int, set[str]] = {}
    for name, runs in cold.items():
        for _, file_id in runs:
            content.setdefault(file_id, set()).add(name)
    ends = dict(
        zip(
            (snapshot.names[number] for number in numbers[held].tolist()),
            spans.unplace(owners.spans[held, 1] - 1)[1].tolist(),  # ascending: the last one of a symbol stays
            strict=True,
        )
    )
    opened = dict(hot.group_by("symbol").agg(pl.col("open_time").min()).iter_rows())
    wanted = sorted(
        cold.keys() | opened.keys() if symbols is None else (cold.keys() | opened.keys()) & set(symbols)
    )
    mixed = {name for name in wanted if name in opened and name in ends and opened[name] <= ends[name]}
    return list(_joined(wanted, cold, files, content if symbols is None else {}, mixed))


def _joined(
    wanted: list[str],
    cold: dict[str, list[tuple[int, int]]],
    files: dict[int, ColdFile],
    content: dict[int, set[str]],
    mixed: set[str],
) -> Iterator[_Piece]:
    """Give the pieces in order; symbols that follow each other in one file, and are all it holds, are one piece."""

    def key(name: str) -> tuple[tuple[int, ...], bool]:
        ids = [file_id for file_id, _ in groupby(file_id for _, file_id in cold.get(name, []))]
        return tuple(dict.fromkeys(ids)), len(set(ids)) != len(ids) or name in mixed

    for (ids, is_mixed), group in groupby(wanted, key):
        names = list(group)
        found = tuple(files[file_id] for file_id in ids)
        if len(ids) == 1 and not is_mixed and content.get(ids[0]) == set(names):
            yield _Piece(names, found, whole=True, mixed=False)
        else:
            yield from (_Piece([name], found, whole=False, mixed=is_mixed) for name in names)


def _parts(
    snapshot: Snapshot, cold_files: ColdFiles, piece: _Piece, recent: dict[str, pl.DataFrame]
) -> Iterator[pl.LazyFrame]:
    """Give a piece's cold bars symbol by symbol, each followed by its hot ones."""
    for name in piece.symbols:
        hot = recent.get(name)
        if piece.files:
            cold = _cold(snapshot, cold_files, piece.files).filter(pl.col("symbol") == name)
            if piece.mixed:
                above = STORED_FRAME if hot is None else hot
                below = cold.join(above.lazy().select(_KEYS), on=_KEYS, how="anti")
                yield pl.concat([below, above.lazy()]).sort(_KEYS)
                continue
            yield cold
        if hot is not None:
            yield hot.lazy()


STORED_FRAME = pl.DataFrame(schema=STORED_SCHEMA)


def _cold(snapshot: Snapshot, cold_files: ColdFiles, files: Sequence[ColdFile]) -> pl.LazyFrame:
    part = cold_files.scan(files).select(STORED_SCHEMA.names())
    if snapshot.start > 0 or snapshot.end < TIME_LIMIT:
        part = part.filter(pl.col("open_time").is_between(snapshot.start, snapshot.end, closed="left"))
    return part
