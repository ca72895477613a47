"""`klinecast gaps`: which bars are missing, why, and who was asked for them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from assets.choices import known_symbols, read_intervals, read_symbols, unknown_names
from assets.errors import GivenValueError
from assets.gap_ledger import CAUSES, by_cause, read_ledger
from assets.home import Home
from assets.wording import count
from orchestration.cli.output import print_table, told_missing


class UnknownCauseError(GivenValueError):
    """A cause that the ledger does not know."""


def show_gaps(
    intervals: str | None,
    symbols: str | None,
    cause: str | None,
    limit: int | None,
    as_json: bool,
    *,
    shown: int,
) -> int:
    """Show the gap ledger: the largest gaps by symbol and interval, and totals by cause.

    `limit` gaps are shown; by default all as JSON, and the `shown` largest for a person.
    """
    if cause is not None and cause not in CAUSES:
        raise UnknownCauseError(
            f"{cause!r} is no cause of the gap ledger",
            where="--cause",
            remedy=f"use one of: {', '.join(CAUSES)}",
        )
    chosen, names = read_intervals(intervals), read_symbols(symbols)
    with Home().existing_store() as store:
        all_of_them, spans = read_ledger(store), store.spans()
        ledger = read_ledger(store, intervals=chosen, symbols=names, cause=cause)
        symbols_here = known_symbols(store) | set(all_of_them["symbol"])
    intervals_here = {*spans["kline_interval"], *all_of_them["kline_interval"]}
    missing = (
        unknown_names(chosen, intervals_here, "--intervals", kind="interval"),
        unknown_names(names, symbols_here, "--symbols"),
    )
    if as_json:
        print(json.dumps(_as_json(ledger, limit)))
    elif ledger.is_empty():
        print(_nothing(cause, chosen=(chosen, names) != (None, None)))
    else:
        largest = (
            ledger.with_row_index().sort("bars", descending=True, maintain_order=True).head(limit or shown)
        )
        _print_gaps(largest.sort("index"), ledger.height)
        _print_totals(ledger)
    return told_missing(*missing)


def _nothing(cause: str | None, *, chosen: bool) -> str:
    """Say what it means that no gap was found."""
    if cause is not None:
        return f"no gaps that match: none has the cause {cause}"
    that_match = " that match" if chosen else ""
    return f"no gaps{that_match}: no bar between the first and the last asked for is missing"


def _print_gaps(shown: pl.DataFrame, of: int) -> None:
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
    print_table(view)
    console = Console(soft_wrap=True)
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
