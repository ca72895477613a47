"""From the text of klines to columns in one pass, compiled by Numba: for what comes in bulk.

One scanner reads both texts that bars come in: a klines answer (rows of JSON in which decimals are quoted) and a line
of an archive's CSV. It takes nothing but digits and points between the marks that the protocol prescribes; whatever
else there is sends the text the careful way, row by row. Decimals become the nearest float64: a quotient of two
numbers that are both exact is rounded once (Clinger 1990, "How to read floating point numbers accurately"), and
a number of more than 53 bits is left to Python's own reading.

Importing Numba takes about a second, as long as a small ingest does in all: who has much to read calls `load` first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.klines import KLINE_COLUMNS, KLINE_SCHEMA, unknown_as_null

WHOLES: Final = tuple(name for name in KLINE_COLUMNS if KLINE_SCHEMA[name] == pl.Int64)
DECIMALS: Final = tuple(name for name in KLINE_COLUMNS if KLINE_SCHEMA[name] == pl.Float64)

_FIELDS: Final = len(KLINE_COLUMNS) + 1

_ANY_ROW: Final = b'[[1,"1","1","1","1","1",1,"1",1,"1","1","1"]]'

_kernel: ModuleType | None = None
_scanner: Callable[..., int] | None = None
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


def load() -> None:
    """Import Numba and have the scanner ready, compiled or from its cache; only the first call does anything."""
    global _kernel, _scanner
    with _loading:
        if _scanner is not None:
            return
        import numba

        from market import scan_kernel

        _kernel = scan_kernel
        try:
            scanner = numba.njit(nogil=True, cache=True)(scan_kernel.scan)
            _run(scanner, [_ANY_ROW], 1)
        except Exception:  # nowhere to keep what is compiled, or what was kept is damaged
            scanner = numba.njit(nogil=True)(scan_kernel.scan)
            _run(scanner, [_ANY_ROW], 1)
        _scanner = scanner


def is_loaded() -> bool:
    """Tell whether the scanner is ready in this process."""
    return _scanner is not None


def count_of(text: bytes, mark: bytes) -> int:
    """Return how often a byte occurs: of marks that are frequent, in a seventh of the time of `bytes.count`."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == mark[0]))


def looks_regular(body: bytes) -> bool:
    """Tell whether an answer begins and ends as a list of rows does."""
    return body.startswith(b"[[") and body.endswith(b"]]")


def scan_answers(bodies: Sequence[bytes], rows: Sequence[int]) -> Columns | None:
    """Read klines answers, one after the other, in one go and without the interpreter's lock.

    Parameters
    ----------
    rows : sequence of int
        How many rows each of them must have.

    Returns
    -------
    Columns or None
        None if one is empty or irregular, or if nobody has called `load`.
    """
    if _scanner is None or not all(map(looks_regular, bodies)):
        return None
    found = _run(_scanner, bodies, sum(rows))
    return found[0] if found is not None and found[1] == list(rows) else None


def scan_answer(body: bytes) -> Columns | None:
    """Read one klines answer, as `scan_answers` does."""
    return scan_answers([body], [count_of(body, b"[") - 1])


def scan_csv(text: bytes) -> Columns | None:
    """Read the lines of an archive file (without a header); None if anything in them is irregular."""
    load()
    if not text or _kernel is None or _scanner is None:
        return None
    lines = text if text.endswith(b"\n") else text + b"\n"
    columns = _room(count_of(lines, b"\n"))
    # The last lines apart, since something must follow: a copy of all would cost as much as a fifth of the reading.
    cut = lines.rfind(b"\n", 0, max(0, len(lines) - _kernel.PADDING)) + 1
    first = _fill(_scanner, lines, [cut], columns, 0, json=False) if cut else [0]
    if first is None:
        return None
    rest = lines[cut:] + bytes(_kernel.PADDING)
    last = _fill(_scanner, rest, [len(lines) - cut], columns, first[0], json=False)
    return columns if last is not None and first[0] + last[0] == columns.rows else None


def _run(scanner: Callable[..., int], bodies: Sequence[bytes], rows: int) -> tuple[Columns, list[int]] | None:
    """Return the rows of all answers, and how many each has; None unless there are just as many as said."""
    if _kernel is None or rows < 1:
        return None
    columns = _room(rows)
    ends = np.cumsum([len(body) for body in bodies]).tolist()
    counts = _fill(scanner, b"".join([*bodies, bytes(_kernel.PADDING)]), ends, columns, 0, json=True)
    return None if counts is None or sum(counts) != rows else (columns, counts)


def _room(rows: int) -> Columns:
    return Columns(np.empty((len(WHOLES), rows), np.int64), np.empty((len(DECIMALS), rows)))


def _fill(
    scanner: Callable[..., int], text: bytes, ends: Sequence[int], columns: Columns, row: int, *, json: bool
) -> list[int] | None:
    """Read texts into `columns` from `row` on; returns how many rows each has, None if anything is irregular."""
    counts = np.zeros(len(ends), np.int64)
    late = scanner(
        np.frombuffer(text, np.uint8),
        np.array(ends, np.int64),
        json,
        _places(_kernel),
        row,
        columns.wholes,
        columns.decimals,
        counts,
    )
    if late < 0:
        return None
    if late:
        read = columns.decimals[:, row : row + int(counts.sum())]
        _read_late(text, read, b'"' if json else b",")
    found: list[int] = counts.tolist()
    return found


def _places(kernel: Any) -> NDArray[np.int64]:
    """Return where each field of a row goes, as the kernel is told."""
    fields = [
        WHOLES.index(name) if name in WHOLES else kernel.DECIMAL + DECIMALS.index(name)
        for name in KLINE_COLUMNS
    ]
    return np.array([*fields, kernel.UNUSED])


def _read_late(text: bytes, decimals: NDArray[np.float64], end: bytes) -> None:
    """Read the decimals of which the scanner has left only the place: with a minus, which no decimal has."""
    for column, row in np.argwhere(decimals < 0).tolist():
        start = -int(decimals[column, row])
        decimals[column, row] = float(text[start : text.index(end, start)])
