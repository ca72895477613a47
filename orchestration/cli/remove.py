"""`klinecast remove`: name what will go, ask, remove."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from assets import removal
from assets.errors import AssetError
from assets.metadata import utc
from assets.platform import Platform
from assets.removal import Removal
from orchestration.cli.wording import count

_SHOWN = 30


class UnconfirmedError(AssetError):
    """Nobody has said yes."""


def remove_bars(interval: str, symbols: str | None, start: str | None, end: str | None, *, sure: bool) -> int:
    """Remove bars once a person has agreed to what is named; returns the exit code."""
    platform, console = Platform(), Console(soft_wrap=True, highlight=False)
    names = None if symbols is None else [name.strip() for name in symbols.split(",") if name.strip()]
    span = removal.read_time(start, "--start"), removal.read_time(end, "--end")
    found = removal.preview(platform, interval, names, *span)
    if not found.rows:
        console.print(f"nothing to remove: no {interval} bar of these is stored in that span")
        return 0
    _name(found, console, platform)
    if not sure and not _agreed(found):
        console.print("nothing was removed")
        return 1
    gone = removal.remove(platform, found, start=span[0])
    console.print(f"removed {count(gone, 'bar')}")
    return 0


def _name(found: Removal, console: Console, platform: Platform) -> None:
    shown = Table("symbol", "bars", "first open time", "last bar ends", box=None)
    for name, rows, first, last in found.series.head(_SHOWN).iter_rows():
        shown.add_row(name, f"{rows:,}", utc(first), utc(last))
    console.print(f"from {platform.settings.home}, interval {found.interval}:")
    console.print(shown)
    if found.series.height > _SHOWN:
        console.print(f"... and {found.series.height - _SHOWN:,} symbols more")
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
