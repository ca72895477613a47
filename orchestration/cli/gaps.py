"""`klinecast gaps`: which bars are missing, why, and who was asked for them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from assets.choices import read_intervals, read_symbols
from assets.errors import AssetError
from assets.gap_ledger import CAUSES, by_cause, ledger_of, stored_series
from assets.home import Home
from assets.wording import count

_SHOWN = 50
_WIDTH = 140


class UnknownCauseError(AssetError):
    """A cause that the ledger does not know."""


def show_gaps(
    intervals: str | None, symbols: str | None, cause: str | None, limit: int | None, as_json: bool
) -> int:
    """Show the gap ledger: the largest gaps by symbol and interval, and totals by cause."""
    if cause is not None and cause not in CAUSES:
        raise UnknownCauseError(
            f"{cause!r} is no cause of the gap ledger",
            where="--cause",
            remedy=f"use one of: {', '.join(CAUSES)}",
        )
    chosen, names, home = read_intervals(intervals), read_symbols(symbols), Home()
    ledger = ledger_of(home, chosen, names, cause)
    if as_json:
        print(json.dumps(_as_json(ledger, limit)))
        return 0
    if ledger.is_empty():
        print(_nothing(home, chosen, names, cause))
        return 0
    shown = ledger.with_row_index().sort("bars", descending=True, maintain_order=True).head(limit or _SHOWN)
    _print_gaps(shown.sort("index"), ledger.height)
    _print_totals(ledger)
    return 0


def _nothing(home: Home, intervals: list[str] | None, symbols: list[str] | None, cause: str | None) -> str:
    """Say what it means that no gap was found."""
    held = stored_series(home)
    missing = [name for name in intervals or () if name not in {interval for _, interval in held}]
    if missing:
        return f"no gaps that match: no bars of {', '.join(missing)} are stored"
    unknown = [name for name in symbols or () if name not in {symbol for symbol, _ in held}]
    if unknown:
        return f"no gaps that match: no bars of {', '.join(unknown)} are stored"
    if cause is not None:
        return f"no gaps that match: none has the cause {cause}"
    chosen = " that match" if (intervals, symbols) != (None, None) else ""
    return f"no gaps{chosen}: no bar between the first and the last asked for is missing"


def _print_gaps(shown: pl.DataFrame, of: int) -> None:
    console = Console(
        width=max(_WIDTH, Console().width)
    )  # a narrow terminal breaks lines rather than cut them
    view = Table(box=None, header_style="bold")
    for name in ("symbol", "interval", "from (UTC)", "until (UTC)"):
        view.add_column(name, no_wrap=True)
    view.add_column("bars", justify="right", no_wrap=True)
    view.add_column("cause", no_wrap=True)
    view.add_column("symbols", justify="right", no_wrap=True)
    view.add_column("asked", no_wrap=True)
    view.add_column("last (UTC)", no_wrap=True)
    for row in shown.iter_rows(named=True):
        view.add_row(
            row["symbol"],
            row["kline_interval"],
            _minute(row["start_time"]),
            _minute(row["end_time"]),
            f"{row['bars']:,}",
            row["cause"],
            f"{row['symbols']:,}",
            row["sources"],
            _minute(row["checked_time"]),
        )
    console.print(view)
    if shown.height < of:
        console.print(f"the {shown.height:,} largest of {of:,} gaps; see more with --limit")
    console.print()


def _print_totals(ledger: pl.DataFrame) -> None:
    console = Console(soft_wrap=True)
    for cause, meaning in CAUSES.items():
        rows = ledger.filter(pl.col("cause") == cause)
        if rows.height:
            series = rows.select("symbol", "kline_interval").n_unique()
            console.print(
                f"{cause:<18} {count(int(rows['bars'].sum()), 'bar')} in {count(rows.height, 'gap')} of"
                f" {series:,} series: {meaning}",
                highlight=False,
            )


def _minute(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _as_json(ledger: pl.DataFrame, limit: int | None) -> dict[str, Any]:
    """Return all rows, or the largest `limit`, with times in ms, and the totals of all."""
    rows = ledger.with_row_index()
    if limit is not None:
        rows = rows.sort("bars", descending=True, maintain_order=True).head(limit).sort("index")
    return {"gaps": rows.drop("index").to_dicts(), "by_cause": by_cause(ledger).to_dicts()}
