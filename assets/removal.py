"""Removing bars on a person's word: what would go, symbol by symbol, and then the removal itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from assets.choices import unknown_names
from assets.home import Home
from market.intervals import interval_ms
from market.store import KlineStore


@dataclass(frozen=True)
class Removal:
    """What `remove` would take away, or has taken away.

    Attributes
    ----------
    interval : str
        Of the bars.
    series : pl.DataFrame
        A row a symbol of which bars go: symbol, rows, start_time, end_time (ms; the end of the last bar).
    rows, files, gaps : int
        Bars that go in all, Parquet files that are written anew or dropped, rows of the gap ledger that go or shrink.
    """

    interval: str
    series: pl.DataFrame
    rows: int
    files: int
    gaps: int


def preview(
    home: Home, interval: str, symbols: Sequence[str] | None, start: int | None, end: int | None
) -> Removal:
    """Say what `remove` would take away; None as symbols means all that have bars."""
    with home.existing_store() as store:
        return _preview(store, interval, symbols, start, end)


def remove(home: Home, named: Removal, *, start: int | None) -> int:
    """Remove what `preview` has named, from `start` on, and nothing that was stored after it; returns how many bars."""
    until = named.series["end_time"].max()
    with home.existing_store() as store:
        return store.remove(named.interval, named.series["symbol"].to_list(), start, until).rows  # type: ignore[arg-type]


def _preview(
    store: KlineStore, interval: str, symbols: Sequence[str] | None, start: int | None, end: int | None
) -> Removal:
    interval_ms(interval)
    held = store.spans(interval)["symbol"].to_list()
    unknown_interval = unknown_names(
        [interval], set(store.spans()["kline_interval"]), "--interval", kind="interval"
    )
    if unknown := unknown_interval or unknown_names(symbols, held, f"--symbols, of {interval} bars"):
        raise unknown  # what is removed is gone: nothing is, while a part of it was not meant so
    chosen = held if symbols is None else list(symbols)
    single = [(name, store.would_remove(interval, [name], start, end)) for name in chosen]
    rows = [(name, each.rows, each.start_time, each.end_time) for name, each in single if each.rows]
    whole = store.would_remove(interval, chosen, start, end)
    series = pl.DataFrame(
        rows,
        schema={"symbol": pl.String, "rows": pl.Int64, "start_time": pl.Int64, "end_time": pl.Int64},
        orient="row",
    )
    return Removal(interval, series, whole.rows, whole.files, whole.gaps)
