"""The quick answer to "are these bars all sound, and in order?", which nearly always is yes.

`market.klines.validate` asks it first and gives reasons only where the answer is no. The checks are those of
`market.klines`, turned around so that one pass over a column with numpy settles each: a comparison with NaN is
false, so that what is not finite fails too.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

ROUNDING: Final = 1e-9
"""Sums of decimal amounts read as binary floats differ in the last digits: shares may exceed by as much."""

_REQUIRED: Final = frozenset({"symbol", "open_time", "open", "high", "low", "close", "volume"})

Columns = dict[str, NDArray[Any]]


def all_sound(frame: pl.DataFrame, length: int, origin: int) -> bool:
    """Tell whether every row of a frame would pass, judged by itself.

    Parameters
    ----------
    frame : pl.DataFrame
        As `market.klines.conform` returned it.
    length, origin : int
        Length of the interval and the open time its grid counts from, ms.

    Returns
    -------
    bool
        False also where a row would pass but only the slow checks can tell: some values of a column are null.
    """
    if frame.is_empty():
        return True
    series = dict(zip(frame.columns, frame.get_columns(), strict=True))
    columns: Columns = {}
    for name, values in series.items():
        nulls = values.null_count()
        if nulls and (nulls < len(values) or name in _REQUIRED):
            return False
        if not nulls and name != "symbol":
            columns[name] = values.to_numpy()
    return (
        _times_sound(columns, length, origin)
        and _prices_sound(columns)
        and _amounts_sound(columns)
        and ("symbol" not in series or series["symbol"].min() != "")
    )


def in_order(frame: pl.DataFrame) -> bool:
    """Tell whether rows ascend strictly by symbol and open_time, so that none is there twice."""
    if frame.height < 2:
        return True
    later = np.diff(frame["open_time"].to_numpy()) > 0
    if "symbol" not in frame.columns:
        return bool(later.all())
    after, before = frame["symbol"].slice(1), frame["symbol"].slice(0, frame.height - 1)
    return bool((after >= before).all() and ((after != before).to_numpy() | later).all())


def _times_sound(columns: Columns, length: int, origin: int) -> bool:
    open_time, close_time = columns["open_time"], columns.get("close_time")
    on_grid = not ((open_time - origin) % length).any()
    return on_grid and (close_time is None or bool((close_time == open_time + (length - 1)).all()))


def _prices_sound(columns: Columns) -> bool:
    opened, high, low, close = (columns[name] for name in ("open", "high", "low", "close"))
    return bool(
        low.min() > 0
        and high.max() < np.inf
        and (low <= opened).all()
        and (low <= close).all()
        and (opened <= high).all()
        and (close <= high).all()
    )


def _amounts_sound(columns: Columns) -> bool:
    amounts = ("volume", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote")
    if not all(
        columns[name].min() >= 0 and columns[name].max() < np.inf for name in amounts if name in columns
    ):
        return False
    pairs = (("taker_buy_base", "volume"), ("taker_buy_quote", "quote_volume"))
    return all(
        bool((columns[part] <= columns[whole] * (1 + ROUNDING)).all())
        for part, whole in pairs
        if part in columns and whole in columns
    )
