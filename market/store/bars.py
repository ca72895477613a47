"""Bars as one packed array: the form in which they travel between frames, the database and panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.errors import MarketError
from market.intervals import interval_ms
from market.klines import STORED_SCHEMA, validate
from market.sound_bars import in_order
from market.store.spans import TIME_LIMIT

VALUE_COLUMNS: Final[tuple[str, ...]] = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "taker_buy_base",
    "taker_buy_quote",
)
"""What a bar holds beyond its key; close_time is no part of it, since open_time and interval give it."""

_OPTIONAL_VALUES: Final = frozenset({"quote_volume", "trades", "taker_buy_base", "taker_buy_quote"})

BAR: Final = np.dtype(
    [("open_time", "<i8"), ("symbol_id", "<i8"), *((name, "<f8") for name in VALUE_COLUMNS)]
)
"""A bar in 88 bytes; NaN stands for an unknown value. SQLite keeps these very bytes."""

Bars = NDArray[np.void]


def accept(frame: pl.DataFrame, interval: str, *, trusted: bool = False) -> pl.DataFrame:
    """Return the bars of `frame` in canonical form, sorted by symbol and open_time.

    Parameters
    ----------
    trusted : bool
        The frame is what `market.klines.validate` called good: only its schema, its order and that its values
        are finite are looked at again.

    Raises
    ------
    MarketError
        If the schema is wrong or any row is refused by `market.klines.validate`: all or nothing is stored.
    """
    if "symbol" not in frame.columns:
        raise MarketError(
            "kline frame lacks symbol",
            where=f"columns {', '.join(frame.columns) or 'none'}",
            remedy="give bars of one or more symbols with the symbol in its own column",
        )
    if trusted and frame.schema == STORED_SCHEMA and in_order(frame) and _finite(frame):
        return _within_reach(frame, interval)
    good, refused = validate(frame, interval)
    if not refused.is_empty():
        first = refused.row(0, named=True)
        raise MarketError(
            f"{refused.height:,} of {frame.height:,} bars are refused, the first because {first['reason']}",
            where=f"{first['symbol']} {interval} open_time {first['open_time']}",
            remedy="part good from refused rows with market.klines.validate; quarantine the latter",
        )
    return _within_reach(good, interval)


def _finite(frame: pl.DataFrame) -> bool:
    """Tell whether all values are finite; only those that a source may not know may be null."""
    for name in VALUE_COLUMNS:
        series = frame[name]
        if series.null_count():
            if name not in _OPTIONAL_VALUES:
                return False
            series = series.drop_nulls()
        # numpy: on a few hundred rows each expression of Polars costs more than the check itself.
        if not np.isfinite(series.to_numpy()).all():
            return False
    return True


def _within_reach(good: pl.DataFrame, interval: str) -> pl.DataFrame:
    """Refuse times that the store's keys cannot hold, and thereby times in other units than ms."""
    if good.height and not (good["open_time"].min() >= 0 and good["open_time"].max() < TIME_LIMIT):  # type: ignore[operator]
        raise MarketError(
            "an open_time lies before 1970 or after 2248",
            where=f"{interval} open_time {good['open_time'].min()!s} to {good['open_time'].max()!s}",
            remedy="give times in ms since the epoch (archives since 2025 have µs: divide by 1,000)",
        )
    return good


def pack(good: pl.DataFrame, symbol_ids: Mapping[str, int]) -> Bars:
    """Pack accepted bars, shape (bars,), in the order of the database's key: open_time, symbol number."""
    bars = np.empty(good.height, BAR)
    bars["open_time"] = good["open_time"].to_numpy()
    first = symbol_starts(good)  # rows are by symbol: one look-up for each, not for each row
    numbers = np.array([symbol_ids[name] for name in good["symbol"][first].to_list()], np.int64)
    bars["symbol_id"] = np.repeat(numbers, np.diff(first, append=good.height))
    for name in VALUE_COLUMNS:
        bars[name] = values_of(good[name]) + 0.0  # -0.0 becomes 0.0: equal bars have equal bytes
    return bars[np.lexsort((bars["symbol_id"], bars["open_time"]))]


def symbols_of(good: pl.DataFrame) -> list[str]:
    """Return the symbols of accepted bars, each once."""
    names: list[str] = good["symbol"][symbol_starts(good)].to_list()
    return names


def symbol_starts(good: pl.DataFrame) -> NDArray[np.int64]:
    """Return the first row of each run of one symbol."""
    symbols = good["symbol"]
    if symbols.is_empty():
        return np.empty(0, np.int64)
    changes = np.flatnonzero((symbols.slice(1) != symbols.slice(0, len(symbols) - 1)).to_numpy())
    return np.concatenate(([0], changes + 1))


def values_of(series: pl.Series) -> NDArray[np.float64]:
    """Return a column's values, NaN for null."""
    if series.null_count():
        series = series.cast(pl.Float64).fill_null(np.nan)
    return series.to_numpy().astype(np.float64, copy=False)


def unpack(bars: Bars, names: Mapping[int, str], interval: str) -> pl.DataFrame:
    """Return packed bars as a frame (`market.klines.STORED_SCHEMA`), in the order of the array."""
    ids = bars["symbol_id"]
    table = np.zeros(int(ids.max()) + 1 if len(ids) else 0, np.int64)
    known = np.unique(ids)
    table[known] = np.arange(len(known))
    labels = pl.Series([names[int(i)] for i in known], dtype=pl.String)
    columns: dict[str, pl.Series] = {"symbol": labels.gather(table[ids])}
    open_time = np.ascontiguousarray(bars["open_time"])
    columns["open_time"] = pl.Series(open_time)
    columns["close_time"] = pl.Series(open_time + (interval_ms(interval) - 1))
    for name in VALUE_COLUMNS:
        series = pl.Series(np.ascontiguousarray(bars[name]))
        columns[name] = series.fill_nan(None) if name in _OPTIONAL_VALUES else series
    return pl.DataFrame({name: columns[name].cast(kind) for name, kind in STORED_SCHEMA.items()})


def overlay(below: Bars, above: Bars) -> Bars:
    """Return both sets of bars by open_time and symbol number; where both have one, that `above`."""
    both = np.concatenate((above, below))
    order = np.lexsort((np.arange(len(both)), both["symbol_id"], both["open_time"]))
    both = both[order]
    same = (both["open_time"][1:] == both["open_time"][:-1]) & (
        both["symbol_id"][1:] == both["symbol_id"][:-1]
    )
    return both[np.concatenate(([True], ~same))] if len(both) else both


def only(bars: Bars, symbol_ids: Sequence[int]) -> Bars:
    """Return those bars that are of these symbols."""
    ids = bars["symbol_id"]
    chosen = np.zeros(int(ids.max()) + 1 if len(ids) else 0, bool)
    wanted = np.asarray(symbol_ids, np.int64)
    chosen[wanted[wanted < len(chosen)]] = True
    kept = chosen[ids]
    return bars if kept.all() else bars[kept]


def none() -> Bars:
    """Return no bars."""
    return np.empty(0, BAR)
