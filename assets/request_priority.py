"""Whether an ingest is a sweep, which keeps bars fresh, or a backfill, which may wait."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from market.intervals import interval_ms
from market.rate_limit import Priority

_PAGE_BARS = 1_000


def request_priority(
    spans: pl.DataFrame, symbols: Sequence[str], intervals: Sequence[str], now: int
) -> Priority:
    """Return "sweep" where most series are stored up to within a page of now, else "backfill".

    Parameters
    ----------
    spans : pl.DataFrame
        What is stored: `KlineStore.spans`.
    symbols, intervals : sequence of str
        What is to be brought up to date.
    now : int
        The exchange's clock, ms.
    """
    lengths = {name: interval_ms(name) for name in intervals}
    stored = spans.filter(
        pl.col("symbol").is_in(list(symbols)), pl.col("kline_interval").is_in(list(lengths))
    )
    fresh = sum(
        now - last <= (_PAGE_BARS + 1) * lengths[interval]
        for interval, last in stored.select("kline_interval", "last_open_time").iter_rows()
    )
    return "sweep" if 2 * fresh >= len(symbols) * len(lengths) else "backfill"
