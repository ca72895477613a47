"""Whether the bars of one interval say what the finer bars of the same time add up to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from market.derive import derive, divides
from market.intervals import ceil_time, floor_time, interval_ms
from market.store import PANEL_COLUMNS, KlineStore

DIFFERENCE_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "kline_interval": pl.String(),
        "open_time": pl.Int64(),
        "finer": pl.String(),
        "column": pl.String(),
        "stored": pl.Float64(),
        "from_finer": pl.Float64(),
    }
)
"""One value of one bar that its finer bars contradict: what is stored, and what they add up to."""

_BARS_AT_ONCE: Final = 1_000_000


@dataclass(frozen=True)
class Agreement:
    """How the bars of two intervals compare.

    Attributes
    ----------
    finer, interval : str
        The interval that adds up, and the one that it is held against.
    compared : int
        Bars of `interval` all of whose finer bars are stored and add up exactly.
    differing : int
        Those of them of which some value differs.
    differences : pl.DataFrame
        `DIFFERENCE_SCHEMA`, one row a value, sorted.
    """

    finer: str
    interval: str
    compared: int
    differing: int
    differences: pl.DataFrame


def pairs_to_compare(intervals: Iterable[str]) -> list[tuple[str, str]]:
    """Return (finer, interval) for every interval that another one divides: the longest that does."""
    by_length = sorted(dict.fromkeys(intervals), key=interval_ms)
    pairs = []
    for at, interval in enumerate(by_length):
        finer = [name for name in by_length[:at] if divides(name, interval)]
        pairs += [(finer[-1], interval)] if finer else []
    return pairs


def compare(finer_bars: pl.DataFrame, bars: pl.DataFrame, finer: str, interval: str) -> Agreement:
    """Hold bars against the finer ones.

    Prices and counts must be equal, and amounts equal to the exact decimal sums (see `market.derive`). A bar of
    which a finer one is missing, and a value that one side does not know, is not compared.

    Parameters
    ----------
    finer_bars, bars : pl.DataFrame
        `market.klines.STORED_SCHEMA`, validated, sorted by symbol and open_time.
    """
    both = bars.join(derive(finer_bars, finer, interval), on=["symbol", "open_time"], suffix="_derived")
    differences = pl.concat(
        both.filter(pl.col(name) != pl.col(f"{name}_derived")).select(
            pl.col("symbol"),
            pl.lit(interval).alias("kline_interval"),
            pl.col("open_time"),
            pl.lit(finer).alias("finer"),
            pl.lit(name).alias("column"),
            pl.col(name).cast(pl.Float64).alias("stored"),
            pl.col(f"{name}_derived").cast(pl.Float64).alias("from_finer"),
        )
        for name in PANEL_COLUMNS
    ).sort("symbol", "open_time", maintain_order=True)
    differing = differences.select("symbol", "open_time").n_unique() if differences.height else 0
    return Agreement(finer, interval, both.height, differing, differences)


def compare_stored(
    store: KlineStore, finer: str, interval: str, symbols: Sequence[str], start: int, end: int
) -> Agreement:
    """Do `compare` with the stored bars that lie whole within [start, end), some symbols at a time.

    Memory stays within about a million finer bars, or one symbol's where it has more.
    """
    first, last = ceil_time(start, interval), floor_time(end, interval)
    together = max(1, _BARS_AT_ONCE * interval_ms(finer) // max(1, last - first))
    parts = [
        compare(
            store.scan(finer, chosen, first, last).collect(),
            store.scan(interval, chosen, first, last).collect(),
            finer,
            interval,
        )
        for chosen in (symbols[at : at + together] for at in range(0, len(symbols), together))
    ]
    return Agreement(
        finer,
        interval,
        sum(part.compared for part in parts),
        sum(part.differing for part in parts),
        pl.concat([DIFFERENCE_SCHEMA.to_frame(), *(part.differences for part in parts)]),
    )
