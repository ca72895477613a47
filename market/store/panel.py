"""Dense panels: time by symbol, on the complete time grid, NaN where there is no bar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.errors import MarketError
from market.intervals import ceil_time, floor_time, interval_ms
from market.store.bars import VALUE_COLUMNS, values_of
from market.store.cold import ColdFiles
from market.store.reading import Snapshot

PANEL_COLUMNS: Final[tuple[str, ...]] = VALUE_COLUMNS
"""Columns of a panel unless told otherwise: open, high, low, close, volume and the trade columns."""


@dataclass(frozen=True)
class Panel:
    """Bars of several symbols on one time grid.

    Parameters
    ----------
    open_time : int64 (T,)
        Every open time of the interval in the span, ascending, ms since the epoch.
    symbols : tuple[str, ...]
        The S symbols, in the order asked for.
    interval : str
        Interval of the bars.
    columns : dict[str, float64 (T, S)]
        C-contiguous; NaN where a bar is missing or its source did not know the value.
    """

    open_time: NDArray[np.int64]
    symbols: tuple[str, ...]
    interval: str
    columns: dict[str, NDArray[np.float64]]


def resolve_span(
    interval: str, start: int | None, end: int | None, bars: int | None, extent: tuple[int, int] | None
) -> tuple[int, int]:
    """Return first open time and end of the grid.

    Parameters
    ----------
    extent : tuple[int, int] or None
        First open time that is stored and the end of the last stored bar; None where nothing is.
    """
    step = interval_ms(interval)
    if bars is None:
        first = ceil_time(start, interval) if start is not None else (extent[0] if extent else 0)
        stop = ceil_time(end, interval) if end is not None else (extent[1] if extent else first)
        if start is None and extent is None:
            first = stop
        return first, max(first, stop)
    if start is not None or bars <= 0:
        raise MarketError(
            f"a panel of {bars} bars" + (" from a start" if start is not None else ""),
            where="start, bars",
            remedy="give bars >= 1 and perhaps end, or start and perhaps end",
        )
    if end is None and extent is None:
        return 0, 0
    stop = floor_time(end, interval) if end is not None else extent[1]  # type: ignore[index]
    return stop - bars * step, stop


def check_request(symbols: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse symbols given twice and columns that no panel has."""
    repeated = sorted(symbol for symbol, times in Counter(symbols).items() if times > 1)
    unknown = [name for name in columns if name not in VALUE_COLUMNS]
    if repeated or unknown:
        raise MarketError(
            f"symbols given twice: {', '.join(repeated)}" if repeated else f"no panel column {unknown[0]!r}",
            where="symbols" if repeated else "columns",
            remedy="give each symbol once" if repeated else f"choose from {', '.join(VALUE_COLUMNS)}",
        )


def fill(
    snapshot: Snapshot,
    files: ColdFiles,
    symbols: Sequence[str],
    ids: Mapping[str, int],
    columns: Sequence[str],
) -> Panel:
    """Lay a snapshot's bars out over its grid; a hot bar overwrites its cold twin."""
    step = interval_ms(snapshot.interval)
    open_time = np.arange(snapshot.start, snapshot.end, step, dtype=np.int64)
    shape = (len(open_time), len(symbols))
    dense = {name: np.full(shape, np.nan) for name in columns}
    place = {symbol: at for at, symbol in enumerate(symbols)}
    cold = _cold_frame(snapshot, files, symbols, columns) if snapshot.files and ids else pl.DataFrame()
    if not cold.is_empty():
        names = cold["symbol"].unique(maintain_order=True)
        positions = pl.Series([place[name] for name in names], dtype=pl.Int64)
        at = cold["symbol"].replace_strict(names, positions, return_dtype=pl.Int64).to_numpy()
        flat = (cold["open_time"].to_numpy() - snapshot.start) // step * shape[1] + at
        for name in columns:
            dense[name].ravel()[flat] = values_of(cold[name])
    hot = snapshot.hot
    if len(hot) and ids:
        column_of = np.zeros(max(ids.values()) + 1, np.int64)
        for symbol, number in ids.items():
            column_of[number] = place[symbol]
        flat = (hot["open_time"] - snapshot.start) // step * shape[1] + column_of[hot["symbol_id"]]
        for name in columns:
            dense[name].ravel()[flat] = hot[name]
    return Panel(open_time, tuple(symbols), snapshot.interval, dense)


def _cold_frame(
    snapshot: Snapshot, files: ColdFiles, symbols: Sequence[str], columns: Sequence[str]
) -> pl.DataFrame:
    return files.collect(
        snapshot.within(files.scan(snapshot.files))
        .filter(pl.col("symbol").is_in(list(symbols)))
        .select("symbol", "open_time", *columns),
        snapshot.files,
    )
