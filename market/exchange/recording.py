"""One recorded file of bars: read on first use, rendered so that every float64 comes back bit for bit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.exchange.source import ExchangeSetupError
from market.intervals import INTERVAL_MS
from market.symbol_names import split_pair

_NAME: Final = re.compile(
    r"(?P<base>[A-Za-z0-9]+?)(?:_(?P<quote>[A-Za-z0-9]+))?_(?P<interval>[0-9]+[smhdw])(?:_(?P<tag>[^/]+))?\.parquet\Z"
)
PRICES: Final = ("open", "high", "low", "close")
_EXTRA: Final = ("close_time", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote")


@dataclass
class Bars:
    """The columns of a recording, ordered by open time (stable: duplicates keep the recorded order)."""

    open_time: NDArray[np.int64]
    close_time: NDArray[np.int64]
    prices: NDArray[np.float64]  # (4, n): open, high, low, close
    volume: NDArray[np.float64]
    quote_volume: NDArray[np.float64]
    trades: NDArray[np.int64]
    taker_buy_base: NDArray[np.float64]
    taker_buy_quote: NDArray[np.float64]


@dataclass
class Recording:
    """A file ``<SYMBOL>_<interval>.parquet``.

    ``complete`` tells whether it has the exchange's columns (the unused one aside); an OHLCV-only file is
    served with ``close_time = open_time + interval - 1`` and zeros for the other four.
    """

    path: Path
    symbol: str
    base: str
    quote: str
    interval: str
    rows: int
    first_open: int
    last_open: int
    complete: bool
    _bars: Bars | None = field(default=None, repr=False)

    @property
    def end_ms(self) -> int:
        """The first ms after the last bar."""
        return self.last_open + INTERVAL_MS[self.interval]

    @property
    def bars(self) -> Bars:
        """The columns, read from the file on first use."""
        if self._bars is None:
            self._bars = _read(self)
        return self._bars


def open_recording(path: Path) -> Recording:
    """Look at a file's name, columns and span without reading its rows into memory.

    Raises
    ------
    ExchangeSetupError
        If name, columns or types are not those of a recording, or it is empty.
    """
    match = _NAME.match(path.name)
    if match is None or match["interval"] not in INTERVAL_MS:
        raise _unfit(path, "its name is not <SYMBOL>_<interval>.parquet")
    base, quote = match["base"].upper(), (match["quote"] or "").upper()
    if not quote:
        base, quote = split_pair(base)
    try:
        frame = pl.scan_parquet(path)
        schema = frame.collect_schema()
        lacking = [name for name in ("open_time", *PRICES, "volume") if name not in schema]
        if lacking:
            raise _unfit(path, f"it has no column {', '.join(lacking)}")
        wrong = [
            name for name, kind in schema.items() if name in ("open_time", "close_time") and kind != pl.Int64
        ]
        if wrong:
            raise _unfit(path, f"{', '.join(wrong)} is not int64 milliseconds")
        times = pl.col("open_time")
        span = frame.select(
            times.min().alias("first"), times.max().alias("last"), pl.len().alias("rows")
        ).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unfit(path, f"it cannot be read: {error}") from error
    first, last, rows = span.row(0)
    if not rows or first is None:
        raise _unfit(path, "it is empty")
    complete = all(name in schema for name in _EXTRA)
    return Recording(path, base + quote, base, quote, match["interval"], rows, first, last, complete)


def _unfit(path: Path, reason: str) -> ExchangeSetupError:
    return ExchangeSetupError(
        f"{path.name} cannot be replayed: {reason}",
        where=str(path),
        remedy="see docs/exchange.md for the layout, or move the file out of the folder",
    )


def _read(recording: Recording) -> Bars:
    wanted = ["open_time", *PRICES, "volume", *(_EXTRA if recording.complete else ())]
    try:
        frame = pl.read_parquet(recording.path, columns=wanted).sort("open_time", maintain_order=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unfit(recording.path, f"it cannot be read: {error}") from error
    open_time = frame["open_time"].to_numpy()
    prices = np.stack([_floats(frame, name) for name in PRICES])
    volume = _floats(frame, "volume")
    if recording.complete:
        return Bars(
            open_time,
            frame["close_time"].to_numpy(),
            prices,
            volume,
            _floats(frame, "quote_volume"),
            frame["trades"].cast(pl.Int64).to_numpy(),
            _floats(frame, "taker_buy_base"),
            _floats(frame, "taker_buy_quote"),
        )
    zeros = np.zeros(len(open_time))
    close_time = open_time + INTERVAL_MS[recording.interval] - 1
    return Bars(open_time, close_time, prices, volume, zeros, zeros.astype(np.int64), zeros, zeros)


def _floats(frame: pl.DataFrame, name: str) -> NDArray[np.float64]:
    return frame[name].cast(pl.Float64).to_numpy()


def decimal_texts(values: NDArray[np.float64]) -> list[str]:
    """Return the shortest text of each float64 that reads back as the same float64, without exponents."""
    texts = list(map(repr, values.tolist()))
    return [format(Decimal(text), "f") if "e" in text else text for text in texts]


def render(bars: Bars, rows: slice, microseconds: bool) -> list[tuple[object, ...]]:
    """Return rows as the wire has them: 12 fields, decimals as text."""
    factor, rest = (1000, 999) if microseconds else (1, 0)
    opened, high, low, closed = (decimal_texts(column[rows]) for column in bars.prices)
    return list(
        zip(
            (bars.open_time[rows] * factor).tolist(),
            opened,
            high,
            low,
            closed,
            decimal_texts(bars.volume[rows]),
            (bars.close_time[rows] * factor + rest).tolist(),
            decimal_texts(bars.quote_volume[rows]),
            bars.trades[rows].tolist(),
            decimal_texts(bars.taker_buy_base[rows]),
            decimal_texts(bars.taker_buy_quote[rows]),
            ["0"] * (rows.stop - rows.start),
            strict=True,
        )
    )


def partial_row(bars: Bars, row: int, elapsed: float) -> Bars:
    """Return one bar as it may have looked when a share ``elapsed`` of its time had passed.

    What really traded inside the bar is not recorded. Open is known; the price is put on a straight line from
    open to close, the range widens and the sums grow in proportion, so nothing ever exceeds the recorded bar.
    """
    opened, high, low, closed = (float(column[row]) for column in bars.prices)
    close = opened + elapsed * (closed - opened)
    high = max(opened, close, opened + elapsed * (high - opened))
    low = min(opened, close, opened + elapsed * (low - opened))
    one = slice(row, row + 1)
    return Bars(
        bars.open_time[one],
        bars.close_time[one],
        np.array([[opened], [high], [low], [close]]),
        bars.volume[one] * elapsed,
        bars.quote_volume[one] * elapsed,
        (bars.trades[one] * elapsed).astype(np.int64),
        bars.taker_buy_base[one] * elapsed,
        bars.taker_buy_quote[one] * elapsed,
    )


def decimals_of(values: Sequence[str]) -> int:
    """Return the most decimals among decimal texts, at most 8."""
    return min(8, max((len(text.partition(".")[2].rstrip("0")) for text in values), default=0))
