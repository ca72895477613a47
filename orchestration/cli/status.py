"""`klinecast status`: what a home holds, and whether it is ready to predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from assets.clock import recorded_clock
from assets.home import Home
from assets.readiness import assess_home, served_model
from assets.source import claimed_source
from assets.wording import lasting, utc
from orchestration.cli.output import console, print_table

if TYPE_CHECKING:
    from assets.readiness import Readiness

_VERDICT_COLOURS = {"ready": "green", "degraded": "yellow", "not_ready": "red"}


def show_status(*, check: bool = False) -> int:
    """Say what this home holds and whether it is ready to predict.

    Returns the exit code: 0, but for `check` 1 unless the verdict is "ready". A home that is not there yet is told of
    and not made.
    """
    out, home = console(), Home()
    readiness = assess_home(home)
    _print_verdict(out, home, readiness)
    if home.holds_store():
        _print_bars(home)
    return int(check and readiness.verdict != "ready")


def _print_verdict(out: Console, home: Home, readiness: Readiness) -> None:
    folder = home.settings.home
    out.print(
        f"home      {folder}{'' if folder.exists() else ' (not there yet)'}", highlight=False, soft_wrap=True
    )
    out.print(
        f"source    {claimed_source(folder) or 'nothing ingested yet'}", highlight=False, soft_wrap=True
    )
    if (clock := recorded_clock(folder)) is not None:
        ago = lasting(clock.now_ms() - clock.exchange_ms)
        out.print(
            f"clock     {utc(clock.now_ms())} at the exchange, {ago} after the last ingest",
            highlight=False,
            soft_wrap=True,
        )
    if (model := served_model(folder)) is not None:
        out.print(f"model     {model}", highlight=False, soft_wrap=True)
    colour = _VERDICT_COLOURS[readiness.verdict]
    out.print(f"verdict   [{colour}]{readiness.verdict}[/{colour}]")
    for reason in readiness.reasons:
        out.print(Padding(Text(reason), (0, 0, 0, 10), expand=False))


def _print_bars(home: Home) -> None:
    with home.existing_store() as store:
        spans = store.spans()
    if spans.is_empty():
        return
    rows = spans.group_by("kline_interval", maintain_order=True).agg(
        symbols=pl.col("symbol").n_unique(),
        bars=pl.col("rows").sum(),
        first=pl.col("first_open_time").min(),
        last=pl.col("last_open_time").max(),
    )
    shown = Table("interval", "symbols", "bars", "first open time", "last open time", box=None)
    for name, symbols, bars, first, last in rows.iter_rows():
        shown.add_row(name, f"{symbols:,}", f"{bars:,}", utc(first), utc(last))
    print_table(shown)
