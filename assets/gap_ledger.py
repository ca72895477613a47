"""The gap ledger as a person reads it: how many bars each gap holds, who shares it, totals by cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from market.intervals import INTERVAL_MS, interval_ms
from market.store import KlineStore

CAUSES = {
    "before_listing": "the exchange has no earlier bar",
    "outage": "the exchange has bars before, but none here",
    "not_listed_anymore": "after the last bar of a symbol that is not traded any more",
    "refused_rows": "rows came, but they are in quarantine",
    "fetch_failed": "requests failed; asked for again in the next run",
}
"""What each cause of the ledger means."""

_LENGTHS = pl.DataFrame({"kline_interval": list(INTERVAL_MS), "_length": list(INTERVAL_MS.values())})


def read_ledger(
    store: KlineStore,
    *,
    intervals: Sequence[str] | None = None,
    symbols: Sequence[str] | None = None,
    cause: str | None = None,
) -> pl.DataFrame:
    """Return the ledger's rows with two more columns, by interval (shortest first), symbol and time.

    Returns
    -------
    pl.DataFrame
        `market.store.LEDGER_SCHEMA`, then `bars`, how many bars are missing, and `symbols`, how many symbols of the
        interval have the very same gap: an outage of the exchange is shared by all that were traded.
    """
    for interval in intervals or ():
        interval_ms(interval)
    shared = pl.len().over("kline_interval", "start_time", "end_time", "cause").cast(pl.Int64)
    rows = store.gaps().join(_LENGTHS, on="kline_interval", how="left", maintain_order="left")
    rows = rows.with_columns(
        bars=(pl.col("end_time") - pl.col("start_time")) // pl.col("_length"), symbols=shared
    )
    if intervals is not None:
        rows = rows.filter(pl.col("kline_interval").is_in(list(intervals)))
    if symbols is not None:
        rows = rows.filter(pl.col("symbol").is_in(list(symbols)))
    if cause is not None:
        rows = rows.filter(pl.col("cause") == cause)
    return rows.sort("_length", "symbol", "start_time").drop("_length")


def by_cause(ledger: pl.DataFrame) -> pl.DataFrame:
    """Return bars, gaps and symbols of each interval and cause, most bars first."""
    return (
        ledger.group_by("kline_interval", "cause")
        .agg(
            pl.col("bars").sum(),
            pl.len().cast(pl.Int64).alias("gaps"),
            pl.col("symbol").n_unique().cast(pl.Int64).alias("symbols"),
        )
        .sort("bars", "kline_interval", "cause", descending=[True, False, False])
    )


def ledger_metadata(ledger: pl.DataFrame, rows: int = 20) -> dict[str, Any]:
    """Return what the UI shows of the ledger: totals by cause, and the largest gaps."""
    from assets.metadata import table  # Dagster's; a command line that only looks does not load it

    largest = ledger.sort("bars", descending=True, maintain_order=True).head(rows)
    return {
        "missing_bars": int(ledger["bars"].sum()),
        "by_cause": table(by_cause(ledger)),
        "largest_gaps": table(
            largest.select(
                "symbol",
                "kline_interval",
                pl.col("start_time").alias("from"),
                pl.col("end_time").alias("until"),
                "bars",
                "cause",
                "symbols",
                "sources",
                "checked_time",
            )
        ),
    }
