"""What a panel must look like, and telling where it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.errors import BadPanel
from kernels.series import BAR_COLUMNS, CLOCK_COLUMNS

DAY_MS = 86_400_000
_MONDAY_MS = 4 * DAY_MS  # 1970-01-05
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999  # years 1 to 9999: numbers beyond are no ms


class PanelLike(Protocol):
    """A dense panel of bars, as `market.store.Panel` is."""

    @property
    def open_time(self) -> NDArray[np.int64]:
        """(T,) open times, ms since epoch UTC, one interval apart."""
        ...

    @property
    def symbols(self) -> tuple[str, ...]:
        """S names."""
        ...

    @property
    def columns(self) -> Mapping[str, NDArray[np.float64]]:
        """(T, S) C-contiguous float64 per column; NaN = missing bar."""
        ...


def check_shapes(panel: PanelLike, needed: Sequence[str]) -> None:
    """Refuse a panel whose columns or time axis are not as documented.

    Raises
    ------
    BadPanel
        Names the column or the row.
    """
    check_times(panel.open_time)
    shape = (len(panel.open_time), len(panel.symbols))
    if 0 in shape:
        raise BadPanel(
            "an empty panel", where=f"{shape[0]} bars, {shape[1]} symbols", remedy="ingest klines first"
        )
    for name in needed:
        if name not in panel.columns:
            raise BadPanel(
                f"the panel has no column {name!r}",
                where=f"columns: {', '.join(panel.columns)}",
                remedy="add it, or leave out the features that read it (see catalogue.available)",
            )
        check_column(name, panel.columns[name], shape)


def check_column(name: str, values: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    """Refuse a column with another dtype, shape or memory order."""
    if isinstance(values, np.ndarray) and values.dtype == np.float64 and values.shape == shape:
        if values.flags.c_contiguous:
            return
        what, remedy = "is not C-contiguous", "copy it with numpy.ascontiguousarray"
    elif not isinstance(values, np.ndarray) or values.dtype != np.float64:
        what, remedy = "is not float64", "convert it with numpy.asarray(x, dtype=float)"
    else:
        what, remedy = f"is not of shape {shape}", "give one value per symbol, and per bar in a panel"
    found = f"{type(values).__name__} {getattr(values, 'dtype', '')} {getattr(values, 'shape', '')}"
    raise BadPanel(f"column {name!r} {what}", where=found, remedy=remedy)


def check_times(open_time: NDArray[np.int64]) -> None:
    """Refuse open times that are not int64, not sorted, or not on a complete grid."""
    if not isinstance(open_time, np.ndarray) or open_time.dtype != np.int64 or open_time.ndim != 1:
        raise BadPanel(
            "open_time is not a one-dimensional int64 array",
            where=f"{type(open_time).__name__} {getattr(open_time, 'dtype', '')}",
            remedy="give ms since epoch UTC as int64",
        )
    if len(open_time):
        check_time(int(open_time.min()))
        check_time(int(open_time.max()))
    steps = np.diff(open_time)
    if not steps.size:
        return
    if (wrong := np.flatnonzero(steps <= 0)).size:
        row = int(wrong[0]) + 1
        raise BadPanel(
            "open_time is not increasing",
            where=f"row {row}: {say_time(open_time[row])} after {say_time(open_time[row - 1])}",
            remedy="sort the bars and remove duplicates",
        )
    if (wrong := np.flatnonzero(steps != steps[0])).size and not _monthly(open_time):
        row = int(wrong[0]) + 1
        raise BadPanel(
            "the time grid is not complete",
            where=f"row {row}: {say_time(open_time[row])} is {steps[row - 1]} ms after the row before, not {steps[0]}",
            remedy="keep a row of NaN for every missing bar, as KlineStore.panel does",
        )


def check_time(open_time: int | np.int64) -> None:
    """Refuse what is no whole number of ms since epoch UTC, such as the µs of archives since 2025."""
    if not isinstance(open_time, int | np.integer) or not _FIRST_MS <= open_time <= _LAST_MS:
        raise BadPanel(
            "open_time is not in ms",
            where=f"open_time {open_time!r}",
            remedy="give whole ms since epoch UTC",
        )


def last_close(open_time: NDArray[np.int64]) -> int:
    """When the last bar closes, ms; of one bar alone, whose length nobody knows, the first ms after it opens."""
    last = int(open_time[-1])
    if len(open_time) == 1:
        return last + 1
    if _monthly(open_time):
        month = open_time[-1:].astype("datetime64[ms]").astype("datetime64[M]") + 1
        return int(month.astype("datetime64[ms]").astype(np.int64)[0])
    return last + int(open_time[-1] - open_time[-2])


def _monthly(open_time: NDArray[np.int64]) -> bool:
    """Whether the times are the starts of successive calendar months."""
    months = open_time.astype("datetime64[ms]").astype("datetime64[M]")
    starts = months.astype("datetime64[ms]").astype(np.int64)
    return bool((starts == open_time).all() and (np.diff(months.astype(np.int64)) == 1).all())


def clock_values(open_time: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.float64]:
    """(C, T) float64 of the clock columns.

    `math.sin` is called once per distinct time of day or weekday: NumPy's vectorised sine may differ in the last bit
    with the length of the array, and a stream passes one bar where a batch passes thousands.
    """
    result = np.empty((max(len(names), 1), len(open_time)))
    day_part = (open_time % DAY_MS) / DAY_MS
    weekday = ((open_time - _MONDAY_MS) // DAY_MS % 7) / 7.0
    sources = dict(zip(CLOCK_COLUMNS, (day_part, day_part, weekday, weekday), strict=True))
    for row, name in enumerate(names):
        function = math.sin if name.endswith("sin") else math.cos
        distinct, place = np.unique(sources[name], return_inverse=True)
        result[row] = np.array([function(2.0 * math.pi * x) for x in distinct.tolist()])[place]
    return result


def bad_bar(
    columns: Mapping[str, NDArray[np.float64]], row: int, open_time: int, symbols: Sequence[str]
) -> BadPanel:
    """Explain what is wrong in a row that the kernels refused."""
    bar = {name: values[row] for name, values in columns.items()}
    o, h, low, c, v = (bar[name] for name in BAR_COLUMNS)
    stack = np.stack([o, h, low, c, v])
    absent = np.isnan(stack).all(axis=0)
    faults = [
        (np.isnan(stack).any(axis=0) & ~absent, "some of open, high, low, close, volume are missing"),
        (np.isinf(stack).any(axis=0), "an infinite value"),
        ((stack[:4] <= 0).any(axis=0), "a price that is not positive"),
        (v < 0, "negative volume"),
        (h < low, "high < low"),
    ]
    for name in list(bar)[len(BAR_COLUMNS) :]:
        faults.append(((bar[name] < 0) | np.isinf(bar[name]), f"negative or infinite {name}"))
    for wrong, what in faults:
        if wrong.any():
            s = int(np.flatnonzero(wrong)[0])
            values = ", ".join(f"{name}={float(bar[name][s])!r}" for name in bar)
            return BadPanel(
                f"bad bar: {what}",
                where=f"symbol {symbols[s]} (column {s}), row {row}, open_time {say_time(open_time)}: {values}",
                remedy="correct or quarantine it; a bar is missing when all its values are NaN",
            )
    return BadPanel("bad bar", where=f"row {row}", remedy="check its values")


def say_time(ms: int | np.int64) -> str:
    """An open time as people read it, with the number itself."""
    return f"{datetime.fromtimestamp(int(ms) / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC ({int(ms)})"
