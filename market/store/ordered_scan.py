"""Bars by symbol and open_time without sorting them all: files hold them in that order already, run by run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from market.errors import MarketError
from market.intervals import interval_ms
from market.klines import STORED_COLUMNS, STORED_SCHEMA
from market.store import spans
from market.store.bars import symbol_starts, unpack
from market.store.cold import ColdFiles
from market.store.manifest import ColdFile, Owners
from market.store.reading import Snapshot, cold_parts

_KEYS = ["symbol", "open_time"]
_BYTES_AT_ONCE = 160 << 20
"""Little for a laptop, and so much that opening the files again for the symbols that follow costs little."""

_VALUE_BYTES, _NAME_BYTES = 8, 16
LONG_RUN = 200
"""Rows; a frame of shorter runs is sorted quicker than it is put together."""


@dataclass(frozen=True)
class _Holding:
    """What is stored of one symbol: in which files, and about how many rows."""

    files: frozenset[int]
    rows: int


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
    held = _holdings(snapshot, owners, hot)
    names = sorted(held if symbols is None else held.keys() & set(symbols))
    if not names:
        return pl.DataFrame(schema=STORED_SCHEMA).lazy().select(wanted)
    if hot.is_empty() and (files := _one_after_the_other(snapshot, held, names)):
        cold = snapshot.within(cold_files.scan(files).select(STORED_SCHEMA.names()))
        return (cold if symbols is None else cold.filter(pl.col("symbol").is_in(names))).select(wanted)
    source = partial(_batches, snapshot, cold_files, hot, {name: held[name] for name in names})
    return register_io_source(source, schema=STORED_SCHEMA, explain_name="klines in order").select(wanted)


def _holdings(snapshot: Snapshot, owners: Owners, hot: pl.DataFrame) -> dict[str, _Holding]:
    """Return what the snapshot has of each symbol."""
    known = np.isin(owners.file_ids, np.array([file.file_id for file in snapshot.files], np.int64))
    held = owners.spans[known]
    numbers, start = spans.unplace(held[:, 0])
    length = np.minimum(start + (held[:, 1] - held[:, 0]), snapshot.end) - np.maximum(start, snapshot.start)
    bars = length // interval_ms(snapshot.interval) + 1
    files: dict[str, set[int]] = {}
    rows: dict[str, int] = dict(hot.group_by("symbol").len().iter_rows())
    for number, count, file_id in zip(
        numbers.tolist(), bars.tolist(), owners.file_ids[known].tolist(), strict=True
    ):
        name = snapshot.names[number]
        files.setdefault(name, set()).add(file_id)
        rows[name] = rows.get(name, 0) + count
    return {name: _Holding(frozenset(files.get(name, ())), count) for name, count in rows.items()}


def _one_after_the_other(
    snapshot: Snapshot, held: Mapping[str, _Holding], names: Sequence[str]
) -> list[ColdFile]:
    """Return the files in the order in which they give the bars, none if no order of whole files does.

    Compacted files hold a range of symbols each, and one symbol may have several of them.
    """
    order: dict[int, None] = {}
    by_id = {file.file_id: file for file in snapshot.files}
    for name in names:
        files = sorted((by_id[i] for i in held[name].files), key=lambda file: file.start_time)
        if any(a.end_time > b.start_time for a, b in pairwise(files)):
            return []
        for file in files:
            if file.file_id in order and file.file_id != next(reversed(order)):
                return []
            order[file.file_id] = None
    return [by_id[i] for i in order]


def _batches(
    snapshot: Snapshot,
    cold_files: ColdFiles,
    hot: pl.DataFrame,
    held: Mapping[str, _Holding],
    columns: list[str] | None,
    predicate: pl.Expr | None,
    n_rows: int | None,
    _batch_size: int | None,
) -> Iterator[pl.DataFrame]:
    """Yield the bars some symbols at a time, as `polars.io.plugins.register_io_source` asks for them."""
    wanted = STORED_SCHEMA.names() if columns is None else columns
    needed = dict.fromkeys([*_KEYS, *wanted, *([] if predicate is None else predicate.meta.root_names())])
    # With both, the condition is for the first `n_rows` rows only.
    early, late = (predicate, None) if n_rows is None else (None, predicate)

    def read(names: Sequence[str]) -> pl.DataFrame:
        ids = frozenset[int]().union(*(held[name].files for name in names))
        chosen = pl.col("symbol").is_in(names)
        part = snapshot.of_files(ids)
        parts = [cold.filter(chosen) for cold in cold_parts(part, cold_files, hot)]
        lazy = pl.concat([*parts, hot.lazy().filter(chosen)])
        lazy = (lazy if early is None else lazy.filter(early)).select(list(needed))
        return cold_files.collect(lazy, part.files)

    left = n_rows
    rows_at_once = _BYTES_AT_ONCE // (_NAME_BYTES + _VALUE_BYTES * (len(needed) - 1))
    with closing(_one_ahead(read, list(_symbols_at_once(held, rows_at_once)))) as frames:
        for rows in (rows for frame in frames for rows in in_order(frame)):
            if left is not None:
                rows = rows.head(left)
                left -= rows.height
            yield (rows if late is None else rows.filter(late)).select(wanted)
            if left == 0:
                return


def _one_ahead(
    read: Callable[[Sequence[str]], pl.DataFrame], groups: Sequence[Sequence[str]]
) -> Generator[pl.DataFrame, None, None]:
    """Yield what is read of each group, while the next one is being read."""
    if len(groups) == 1:
        yield read(groups[0])
        return
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, groups[0])
        for group in groups[1:]:
            frame = coming.result()
            coming = reader.submit(read, group)
            yield frame
        yield coming.result()


def _symbols_at_once(held: Mapping[str, _Holding], most: int) -> Iterator[list[str]]:
    """Cut the symbols, in order, into groups of at most so many bars, or of one symbol."""
    group: list[str] = []
    rows = 0
    for name, holding in held.items():
        if group and rows + holding.rows > most:
            yield group
            group, rows = [], 0
        group.append(name)
        rows += holding.rows
    yield group


def in_order(bars: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the bars by symbol and open_time, as a few frames; what lies in order stays where it is.

    Parameters
    ----------
    bars : pl.DataFrame
        With symbol and open_time, each pair once, and any other columns; most quickly where many rows in a row
        are of one symbol and ascend in time.
    """
    if bars.is_empty():
        return
    starts = _runs(bars)
    if len(starts) * LONG_RUN > bars.height:
        yield bars.sort(_KEYS)
        return
    ends = np.append(starts[1:], bars.height)
    symbol, opened = bars["symbol"], bars["open_time"]
    runs = pl.DataFrame(
        {
            "symbol": symbol[starts],
            "first": opened[starts],
            "last": opened[ends - 1],
            "start": starts,
            "end": ends,
        }
    ).sort("symbol", "first")
    for _, of_one in runs.group_by("symbol", maintain_order=True):
        pieces = [bars.slice(a, b - a) for a, b in of_one.select("start", "end").iter_rows()]
        whole = pl.concat(pieces, rechunk=False)
        apart = (of_one["first"].slice(1) > of_one["last"].head(of_one.height - 1)).all()
        yield whole if apart else whole.sort("open_time")


def _runs(bars: pl.DataFrame) -> spans.Int64s:
    """Return the first row of each stretch of one symbol in which time ascends."""
    opened = bars["open_time"].to_numpy()
    back = np.flatnonzero(opened[1:] < opened[:-1]) + 1
    return np.union1d(symbol_starts(bars), back)
