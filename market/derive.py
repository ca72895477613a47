"""Bars of a longer interval from those of a shorter one, where that is exact to the last bit.

What an exchange would say follows from its shorter bars:

- open is the open of the first part in which anything was traded, high and low the extremes of the traded parts, close
  the close of the last part. A part without a trade repeats the close before it, which is no price of its own; a bar
  without any trade is flat there.
- volumes and counts are sums. The exchange adds decimals and rounds once, when it prints; adding the floats read
  from its parts would round at every step. So each amount goes back to the whole number of units that it was printed
  from, whole numbers are added, and the sum is divided once, which gives the float nearest to the exact decimal.

A bar is not derived if a part of it is missing, if some but not all parts know a value, or if the amounts cannot be
taken back to decimals beyond doubt.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.intervals import grid_origin, interval_ms
from market.klines import STORED_SCHEMA

Floats = NDArray[np.float64]

MOST_DECIMALS: Final = 8
"""Decimals that the protocol prints."""

_EXACT: Final = float(2**53)
_BEYOND_DOUBT: Final = 40.0  # bits: amounts look like decimals by accident once in 2^40
_SUMS: Final = ("volume", "quote_volume", "taker_buy_base", "taker_buy_quote")


def divides(finer: str, interval: str) -> bool:
    """Tell whether every bar of `interval` consists of whole bars of `finer`, more than one."""
    short, long = interval_ms(finer), interval_ms(interval)
    return long > short and long % short == 0 and (grid_origin(interval) - grid_origin(finer)) % short == 0


def derive(bars: pl.DataFrame, finer: str, interval: str) -> pl.DataFrame:
    """Return the bars of `interval` that follow exactly from bars of `finer`.

    Parameters
    ----------
    bars : pl.DataFrame
        `market.klines.STORED_SCHEMA`, validated, sorted by symbol and open_time, each once.

    Returns
    -------
    pl.DataFrame
        `STORED_SCHEMA`, sorted; only whole bars. Columns that are null in all parts are null.
    """
    length = interval_ms(interval)
    parts = length // interval_ms(finer)
    whole = _whole(bars, interval, parts)
    if whole.is_empty():
        return STORED_SCHEMA.to_frame()
    matrix = {
        name: whole[name].cast(pl.Float64).fill_null(np.nan).to_numpy().reshape(-1, parts)
        for name in ("open", "high", "low", "close", "trades", *_SUMS)
    }
    first = whole.gather_every(parts)
    columns = _prices(matrix)
    exact = np.ones(first.height, bool)
    for name in (*_SUMS, "trades"):
        columns[name], sound = _sum(matrix[name])
        exact &= sound
    derived = pl.DataFrame(
        {
            "symbol": first["symbol"],
            "open_time": first["open_time"],
            "close_time": first["open_time"] + (length - 1),
            **{name: pl.Series(values).fill_nan(None) for name, values in columns.items()},
        }
    )
    return derived.filter(pl.Series(exact)).select(pl.col(n).cast(kind) for n, kind in STORED_SCHEMA.items())


def _whole(bars: pl.DataFrame, interval: str, parts: int) -> pl.DataFrame:
    """Return the rows of those bars of which all parts are there."""
    if bars.is_empty():
        return bars
    slot = (bars["open_time"].to_numpy() - grid_origin(interval)) // interval_ms(interval)
    owner = bars["symbol"].rle_id().to_numpy()
    new = np.concatenate(([True], (slot[1:] != slot[:-1]) | (owner[1:] != owner[:-1])))
    first = np.flatnonzero(new)
    count = np.diff(np.append(first, len(slot)))
    return bars.filter(pl.Series(np.repeat(count == parts, count)))


def _prices(matrix: dict[str, Floats]) -> dict[str, Floats]:
    traded = matrix["volume"] > 0
    some = traded | ~traded.any(axis=1, keepdims=True)
    row = np.arange(len(traded))
    return {
        "open": matrix["open"][row, traded.argmax(axis=1)],
        "high": np.where(some, matrix["high"], -np.inf).max(axis=1),
        "low": np.where(some, matrix["low"], np.inf).min(axis=1),
        "close": matrix["close"][:, -1],
    }


def _sum(values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Add up each row of decimals; returns the sums (NaN where unknown) and which of them are exact."""
    unknown = np.isnan(values)
    known = np.where(unknown, 0.0, values)
    digits = _decimals(known).max(axis=1)
    scale = 10.0 ** np.minimum(digits, MOST_DECIMALS)[:, None]
    units = np.rint(known * scale)
    total = units.sum(axis=1)  # exact: whole numbers below 2^53, or refused
    exact = (
        (digits <= MOST_DECIMALS)
        & (total < _EXACT)
        & (units / scale == known).all(axis=1)
        & (unknown.all(axis=1) | ~unknown.any(axis=1))
        & _beyond_doubt(known, scale)
    )
    return np.where(unknown.any(axis=1), np.nan, total / scale[:, 0]), exact


def _decimals(values: Floats) -> NDArray[np.int64]:
    """Return with how many decimals each value can be written; more than `MOST_DECIMALS` where it cannot."""
    digits = np.full(values.shape, MOST_DECIMALS + 1)
    for count in range(MOST_DECIMALS, -1, -1):
        scale = 10.0**count
        scaled = values * scale
        digits[(np.rint(scaled) / scale == values) & (scaled < _EXACT)] = count
    return digits


def _beyond_doubt(values: Floats, scale: Floats) -> NDArray[np.bool_]:
    """Tell whether the amounts of each row have the decimals found for certain, not by accident.

    Below 2^53 units of the last printed decimal no two decimals share a float. Of a larger amount the float has lost
    digits, and a decimal of fewer digits may lie near by chance. How unlikely it is that an amount with all decimals
    shows no more than these adds up over the parts.
    """
    large: NDArray[np.bool_] = np.any(values * 10.0**MOST_DECIMALS >= _EXACT, axis=1)
    if not large.any():
        return np.ones(len(values), bool)
    chance = np.maximum(np.spacing(values), 10.0**-MOST_DECIMALS) * scale
    bits = np.where(values > 0, np.maximum(0.0, -np.log2(chance)), 0.0)
    certain: NDArray[np.bool_] = np.logical_or(~large, bits.sum(axis=1) >= _BEYOND_DOUBT)
    return certain
