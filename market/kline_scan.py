"""From the text of klines to columns in one pass, compiled by Numba: for what comes in bulk.

One scanner reads both texts that bars come in: a klines answer (rows of JSON in which decimals are quoted) and a line
of an archive's CSV. It takes nothing but digits and points between the marks that the protocol prescribes; whatever
else there is sends the text the careful way, row by row. Decimals become the nearest float64: a quotient of two
numbers that are both exact is rounded once (Clinger 1990, "How to read floating point numbers accurately"), and
a number of more than 53 bits is left to Python's own reading.

Importing Numba takes about a second, as long as a small ingest does in all: who has much to read calls `load` first.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.klines import KLINE_COLUMNS, KLINE_SCHEMA, unknown_as_null

WHOLES: Final = tuple(name for name in KLINE_COLUMNS if KLINE_SCHEMA[name] == pl.Int64)
DECIMALS: Final = tuple(name for name in KLINE_COLUMNS if KLINE_SCHEMA[name] == pl.Float64)

_FIELDS: Final = len(KLINE_COLUMNS) + 1
_UNUSED: Final = 99
# For each field of a row: its place among the whole numbers, or 16 + its place among the decimals.
_PLACES: Final = np.array(
    [WHOLES.index(name) if name in WHOLES else 16 + DECIMALS.index(name) for name in KLINE_COLUMNS]
    + [_UNUSED]
)
_MOST_DIGITS: Final = 18
_EXACT: Final = 2**53
_TENS: Final = np.array([10.0**power for power in range(_MOST_DIGITS + 1)])
_COMMA, _POINT, _QUOTE, _OPEN, _CLOSE, _LINE, _RETURN, _ZERO = b',."[]\n\r0'

_scanner: Callable[..., Any] | None = None
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows as they were sent, not judged yet.

    Attributes
    ----------
    wholes : int64 (3, n)
        `WHOLES`, as they are written: times in whatever unit the text has.
    decimals : float64 (8, n)
        `DECIMALS`.
    """

    wholes: NDArray[np.int64]
    decimals: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.wholes.shape[1]

    @property
    def open_time(self) -> NDArray[np.int64]:
        """Open times, int64 (n,)."""
        times: NDArray[np.int64] = self.wholes[WHOLES.index("open_time")]
        return times

    def frame(self) -> pl.DataFrame:
        """Return the rows as a frame (`KLINE_SCHEMA`) on the same memory."""
        columns: dict[str, NDArray[Any]] = dict(zip(WHOLES, self.wholes, strict=True))
        columns |= dict(zip(DECIMALS, self.decimals, strict=True))
        return unknown_as_null(pl.DataFrame({name: columns[name] for name in KLINE_COLUMNS}))


def together(parts: list[Columns]) -> Columns:
    """Return the rows of several texts, one after the other."""
    return Columns(
        np.concatenate([part.wholes for part in parts], axis=1),
        np.concatenate([part.decimals for part in parts], axis=1),
    )


def load() -> None:
    """Import Numba and have the scanner ready, compiled or from its cache; only the first call does anything."""
    global _scanner
    with _loading:
        if _scanner is not None:
            return
        import numba

        try:
            scanner = numba.njit(nogil=True, cache=True)(_scan)
        except RuntimeError:  # nowhere to keep what is compiled: it is compiled in every process
            scanner = numba.njit(nogil=True)(_scan)
        with contextlib.suppress(OSError):  # a cache that cannot be written is no reason not to read bars
            _run(scanner, b'[[1,"1","1","1","1","1",1,"1",1,"1","1","1"]]', json=True)
        _scanner = scanner


def scan_answer(body: bytes) -> Columns | None:
    """Read a klines answer; None if it is empty or irregular, or if nobody has called `load`."""
    if _scanner is None or not (body.startswith(b"[[") and body.endswith(b"]]")):
        return None
    return _run(_scanner, body, json=True)


def scan_csv(text: bytes) -> Columns | None:
    """Read the lines of an archive file (without a header); None if anything in them is irregular."""
    load()
    if not text:
        return None
    return _run(_scanner, text if text.endswith(b"\n") else text + b"\n", json=False)


def _run(scanner: Any, text: bytes, *, json: bool) -> Columns | None:
    most = text.count(b"[") - 1 if json else text.count(b"\n")
    wholes, decimals = np.empty((len(WHOLES), most), np.int64), np.empty((len(DECIMALS), most))
    rows, late = scanner(np.frombuffer(text, np.uint8), json, wholes, decimals, _PLACES, _TENS)
    if rows != most:
        return None
    if late:
        _read_late(text, decimals, b'"' if json else b",")
    return Columns(wholes, decimals)


def _read_late(text: bytes, decimals: NDArray[np.float64], end: bytes) -> None:
    """Read the decimals of which the scanner has left only the place: with a minus, which no decimal has."""
    for column, row in np.argwhere(decimals < 0).tolist():
        start = -int(decimals[column, row])
        decimals[column, row] = float(text[start : text.index(end, start)])


def _scan(
    text: NDArray[np.uint8],
    json: bool,
    wholes: NDArray[np.int64],
    decimals: NDArray[np.float64],
    places: NDArray[np.int64],
    tens: NDArray[np.float64],
) -> tuple[int, int]:
    """Read rows into columns; returns how many, -1 if anything is irregular, and how many decimals were left.

    The last byte is none that a number could go on with, so that no number is read beyond the end.
    """
    size = text.size
    at = 1 if json else 0
    row, late = 0, 0
    ten = np.uint64(10)
    while True:
        if row >= wholes.shape[1]:
            return -1, 0
        if json:
            if text[at] != _OPEN:
                return -1, 0
            at += 1
        for field in range(_FIELDS):
            place = places[field]
            quoted = json and place >= 16
            if quoted:
                if text[at] != _QUOTE:
                    return -1, 0
                at += 1
            start, number = at, np.uint64(0)
            digit = np.uint64(text[at]) - np.uint64(_ZERO)  # what is below "0" wraps around to a large number
            while digit < ten:
                number = number * ten + digit
                at += 1
                digit = np.uint64(text[at]) - np.uint64(_ZERO)
            digits, after_point = at - start, 0
            if digits == 0:
                return -1, 0
            if place >= 16 and text[at] == _POINT:
                at += 1
                point = at
                digit = np.uint64(text[at]) - np.uint64(_ZERO)
                while digit < ten:
                    number = number * ten + digit
                    at += 1
                    digit = np.uint64(text[at]) - np.uint64(_ZERO)
                after_point = at - point
                if after_point == 0:
                    return -1, 0
                digits += after_point
            if place < 16:
                if digits > _MOST_DIGITS or (json and digits > 1 and text[start] == _ZERO):
                    return -1, 0  # JSON knows no 007
                wholes[place, row] = np.int64(number)
            elif place != _UNUSED:
                if digits <= _MOST_DIGITS and number <= _EXACT:
                    decimals[place - 16, row] = np.float64(number) / tens[after_point]
                else:
                    decimals[place - 16, row] = -np.float64(start)
                    late += 1
            if quoted:
                if text[at] != _QUOTE:
                    return -1, 0
                at += 1
            if field < _FIELDS - 1:
                if text[at] != _COMMA:
                    return -1, 0
                at += 1
        if not json and text[at] == _RETURN and at + 1 < size:
            at += 1
        if text[at] != (_CLOSE if json else _LINE):
            return -1, 0
        row += 1
        at += 1
        if json:
            if at >= size:
                return -1, 0
            if text[at] == _CLOSE:
                return (row, late) if at == size - 1 else (-1, 0)
            if text[at] != _COMMA or at + 1 >= size:
                return -1, 0
            at += 1
        elif at == size:
            return row, late
