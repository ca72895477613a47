"""The quick way from the text of klines answers to a frame: many pages at once, and only what is regular.

A regular page is one in which nothing but digits and points stands between the brackets, commas and quotes that the
protocol prescribes. Its outline (rows, first and last open time) is known without reading it; its values are read
later, together with those of many other pages. Whatever is not regular goes the careful way of `market.wire`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from market.klines import KLINE_COLUMNS, KLINE_SCHEMA

_DIGITS: Final = b"0123456789."
_ROW: Final = b'[,"","","","","",,"",,"","",""],'
_MOST_ROWS: Final = 1_500
_SKELETON: Final = b"[" + _ROW * _MOST_ROWS
# `[[1,"2"],[3,"4"]]` becomes `1,2` and `,3,4` on lines of their own; with a comma before it the first line is like
# the others: an empty field, then those of the row.
_LINES: Final = bytes.maketrans(b"]", b"\n")
_DROPPED: Final = b'"['
_CSV_SCHEMA: Final = pl.Schema({"empty": pl.String(), **KLINE_SCHEMA, "unused": pl.String()})
_WANTED: Final = list(range(1, len(KLINE_COLUMNS) + 1))
OF_TRADES: Final = ("quote_volume", "trades", "taker_buy_base", "taker_buy_quote")
"""What a source of plain OHLCV bars does not know."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a regular page before it is read: its rows, and the open times (ms) at its ends."""

    rows: int
    first: int
    last: int


def outline(body: bytes) -> Outline | None:
    """Return the outline of a klines answer; None for an empty or an irregular one."""
    skeleton = body.translate(None, _DIGITS)
    rows, rest = divmod(len(skeleton) - 1, len(_ROW))
    if (
        rest
        or not 0 < rows <= _MOST_ROWS
        or skeleton[-1:] != b"]"
        or skeleton[:-1] != _SKELETON[: len(skeleton) - 1]
    ):
        return None
    at = body.rindex(b"[") + 1
    first, last = body[2 : body.index(b",")], body[at : body.index(b",", at)]
    # Through whole numbers of the time range only: "" and "1.5" leave the skeleton as it is.
    if not (first.isdigit() and last.isdigit() and len(first) < 19 and len(last) < 19):
        return None
    return Outline(rows, int(first), int(last))


def read(bodies: Sequence[bytes]) -> pl.DataFrame | None:
    """Read regular pages, one after the other, into one frame (`KLINE_SCHEMA`); None if any value is irregular.

    Decimals become the nearest float64, as in `market.wire`.
    """
    lines = b"".join([b"," + body.translate(_LINES, _DROPPED)[:-1] for body in bodies])
    try:
        frame = pl.read_csv(lines, has_header=False, schema=_CSV_SCHEMA, columns=_WANTED, quote_char=None)
    except pl.exceptions.PolarsError:
        return None
    if any(frame[name].null_count() for name in frame.columns):
        return None
    if not all(frame[name].is_finite().all() for name, kind in KLINE_SCHEMA.items() if kind == pl.Float64()):
        return None
    return unknown_as_null(frame.rechunk())


def unknown_as_null(frame: pl.DataFrame) -> pl.DataFrame:
    """Give null for what a source of plain OHLCV bars cannot know but must send as a number.

    There is no volume without a trade: a row with volume and no trades says that its trades, its quote volume and
    its takers are not known. Zeros would pass for market data.
    """
    unknown = (frame["trades"] == 0) & (frame["volume"] > 0)
    if not unknown.any():
        return frame
    return frame.with_columns(pl.when(~unknown).then(pl.col(name)).alias(name) for name in OF_TRADES)
