"""`klinecast remove`: name what will go, ask, remove."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from assets import removal
from assets.choices import read_interval, read_span, read_symbols
from assets.errors import AssetError
from assets.home import Home
from assets.removal import Removal
from assets.wording import count, utc

_SHOWN = 30


class UnconfirmedError(AssetError):
    """Nobody has said yes."""


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
    if not sure and not _agreed(found):
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
    console.print(shown)
    if found.series.height > _SHOWN:
        console.print(f"... and {count(found.series.height - _SHOWN, 'symbol')} more")
    console.print(
        f"in all {count(found.rows, 'bar')} of {count(found.series.height, 'symbol')};"
        f" {count(found.files, 'Parquet file')} written anew or dropped,"
        f" {count(found.gaps, 'row')} of the gap ledger gone or shorter"
    )
    console.print("predictions and flags stay; an ingest fetches these bars again where its span holds them")


def _agreed(found: Removal) -> bool:
    if not sys.stdin.isatty():
        raise UnconfirmedError(
            "nobody can be asked, since this is no terminal; nothing was removed",
            where="klinecast remove",
            remedy="run it in a terminal, or add --yes if you are sure",
        )
    return input(f"remove {count(found.rows, 'bar')} for good? [y/N] ").strip().lower() in ("y", "yes")
