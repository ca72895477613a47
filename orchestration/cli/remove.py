"""`klinecast remove`: name what will go, ask, remove."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from assets import removal
from assets.choices import read_interval, read_span, read_symbols
from assets.home import Home
from assets.removal import Removal
from assets.wording import count, utc
from orchestration.cli.asking import agreed
from orchestration.cli.output import print_table

_SHOWN = 30


def remove_bars(interval: str, symbols: str | None, start: str | None, end: str | None, *, sure: bool) -> int:
    """Remove bars once a person has agreed to what is named; returns the exit code."""
    names, span = read_symbols(symbols), read_span(start, end)
    read_interval(interval)
    home, console = Home(), Console(soft_wrap=True, highlight=False)
    found = removal.preview(home, interval, names, *span)
    if not found.rows:
        console.print(f"nothing to remove: no {interval} bar of these is stored in that span")
        return 0
    _name(found, console, home)
    if not sure and not agreed(
        f"remove {count(found.rows, 'bar')} for good?",
        command="klinecast remove",
        otherwise="nothing was removed",
    ):
        console.print("nothing was removed")
        return 1
    gone = removal.remove(home, found, start=span[0])
    console.print(f"removed {count(gone, 'bar')}")
    return 0


def _name(found: Removal, console: Console, home: Home) -> None:
    shown = Table("symbol", "bars", "first open time", "last bar ends", box=None)
    for name, rows, first, last in found.series.head(_SHOWN).iter_rows():
        shown.add_row(name, f"{rows:,}", utc(first), utc(last))
    console.print(f"from {home.settings.home}, interval {found.interval}:")
    print_table(shown)
    if found.series.height > _SHOWN:
        console.print(f"... and {count(found.series.height - _SHOWN, 'symbol')} more")
    console.print(
        f"in all {count(found.rows, 'bar')} of {count(found.series.height, 'symbol')};"
        f" {count(found.files, 'Parquet file')} written anew or dropped,"
        f" {count(found.gaps, 'row')} of the gap ledger gone or shorter"
    )
    console.print("predictions and flags stay; an ingest fetches these bars again where its span holds them")
