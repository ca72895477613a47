"""Bars of days that the next batch of a backfill goes on with: kept back until their day is whole.

Whole days of a symbol go straight into a Parquet file. A day that a batch has cut would become hot in two halves,
row by row in the database, to be moved into a file later: many times the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import polars as pl

from market.intervals import DAY_MS

Page = TypeVar("Page")


@dataclass(frozen=True, slots=True)
class Piece(Generic[Page]):
    """Bars of a symbol that settle [start, until), or what is left of such.

    Attributes
    ----------
    page
        What they came with: done when they are durable.
    bars : pl.DataFrame
        `market.klines.STORED_SCHEMA`, ascending.
    """

    symbol: str
    start: int
    until: int
    page: Page
    bars: pl.DataFrame


class OpenDays(Generic[Page]):
    """The bars that wait for the rest of their day; of one interval."""

    def __init__(self) -> None:
        self._held: list[Piece[Page]] = []

    @property
    def pages(self) -> list[Page]:
        """What is not done yet, since some of its bars wait."""
        return list({id(piece.page): piece.page for piece in self._held}.values())

    def join(self, found: Sequence[Piece[Page]], *, hold: bool) -> list[pl.DataFrame]:
        """Return the bars to be stored now, by symbol and open_time: those that waited, and those that have come.

        The last day of a stretch waits if it has not ended, but no longer than until the batch after the next: only
        a stretch that something has been added to waits (again).

        Parameters
        ----------
        hold : bool
            More is to come. Otherwise nothing waits.
        """
        waited = {id(piece) for piece in self._held}
        pieces = sorted((*self._held, *found), key=lambda piece: (piece.symbol, piece.start))
        self._held = []
        now: list[pl.DataFrame] = []
        for stretch in _stretches(pieces):
            if hold and any(id(piece) not in waited for piece in stretch):
                now += self._hold(stretch)
            else:
                now += [piece.bars for piece in stretch]
        return [bars for bars in now if bars.height]

    def _hold(self, stretch: Sequence[Piece[Page]]) -> list[pl.DataFrame]:
        """Keep what is of the last day if that has not ended; returns the others."""
        until = stretch[-1].until
        day = until - until % DAY_MS
        now = []
        for piece in stretch:
            if piece.until <= day:
                now.append(piece.bars)
                continue
            before = 0
            if piece.start < day:
                before = int(piece.bars["open_time"].search_sorted(day))
                now.append(piece.bars[:before])
            self._held.append(replace(piece, start=max(piece.start, day), bars=piece.bars[before:]))
        return now


def _stretches(pieces: Sequence[Piece[Page]]) -> list[list[Piece[Page]]]:
    """Return pieces, which are in order, in lists of such as go on where the one before has ended."""
    found: list[list[Piece[Page]]] = []
    for piece in pieces:
        last = found[-1][-1] if found else None
        if last is not None and last.symbol == piece.symbol and last.until == piece.start:
            found[-1].append(piece)
        else:
            found.append([piece])
    return found
