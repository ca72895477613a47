"""A recorded market: a folder of Parquet bars, served up to the exchange's clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from market.exchange.recording import (
    Bars,
    Recording,
    decimal_texts,
    decimals_of,
    open_recording,
    partial_row,
    render,
)
from market.exchange.source import (
    DayStatistics,
    ExchangeSetupError,
    Instrument,
    KlinePage,
    KlineQuery,
    no_statistics,
)
from market.intervals import DAY_MS, INTERVAL_MS

_SAMPLE = 200


class ReplayMarket:
    """The files ``<SYMBOL>_<interval>.parquet`` of a folder and its sub-folders as a market.

    Rows are served as recorded: ordered by open time, duplicates in recorded order, misaligned rows and odd
    close times included. A symbol has the intervals that were recorded, no others.

    Parameters
    ----------
    folder
        Where the files lie.

    Raises
    ------
    ExchangeSetupError
        If there is no such folder, no recording in it, or two of the same symbol and interval.
    """

    kind = "replay"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recordings = _find(folder)
        self.end_ms = max(recording.end_ms for recording in self.recordings.values())
        self._by_symbol: dict[str, list[Recording]] = {}
        for recording in self.recordings.values():
            self._by_symbol.setdefault(recording.symbol, []).append(recording)
        self._intervals = {recording.interval for recording in self.recordings.values()}
        self._instruments: dict[str, Instrument] = {}

    def instruments(self, now_ms: int) -> list[Instrument]:
        """Return the symbols whose first bar has begun."""
        found = (self.instrument(symbol, now_ms) for symbol in self._by_symbol)
        return [instrument for instrument in found if instrument is not None]

    def instrument(self, symbol: str, now_ms: int) -> Instrument | None:
        """Return one symbol, if its first bar has begun."""
        recordings = self._by_symbol.get(symbol)
        if recordings is None or min(recording.first_open for recording in recordings) > now_ms:
            return None
        if symbol not in self._instruments:
            self._instruments[symbol] = _instrument(self._finest(symbol))
        return replace(self._instruments[symbol], status=_status(recordings, now_ms))

    def serves(self, interval: str) -> bool:
        """Tell whether any symbol has this interval."""
        return interval in self._intervals

    def describe(self) -> dict[str, Any]:
        """Return the folder, the end of the data, and which recordings lack the exchange's extra columns."""
        spans = [
            {
                "symbol": recording.symbol,
                "interval": recording.interval,
                "rows": recording.rows,
                "first_open_time": recording.first_open,
                "last_open_time": recording.last_open,
                "ohlcv_only": not recording.complete,
            }
            for recording in self.recordings.values()
        ]
        return {"folder": str(self.folder), "end_ms": self.end_ms, "recordings": spans}

    def klines(self, query: KlineQuery, now_ms: int) -> KlinePage:
        """Render one page of recorded bars as of ``now_ms``; no bars where the interval was not recorded."""
        recording = self.recordings.get((query.symbol, query.interval))
        if recording is None:
            return KlinePage(b"[]", 0, False)
        bars, length = recording.bars, INTERVAL_MS[query.interval]
        last = now_ms if query.end_time is None else min(query.end_time, now_ms)
        low = 0 if query.start_time is None else int(np.searchsorted(bars.open_time, query.start_time))
        high = int(np.searchsorted(bars.open_time, last, side="right"))
        low, high = _cut(low, high, query)
        # Bars are ordered by open time, so those that have closed come first.
        closed = int(np.searchsorted(bars.open_time, now_ms - length, side="right"))
        whole = min(high, closed)
        rows = render(bars, slice(low, max(low, whole)), query.microseconds)
        for row in range(max(low, whole), high):
            elapsed = (now_ms - int(bars.open_time[row])) / length
            rows += render(partial_row(bars, row, elapsed), slice(0, 1), query.microseconds)
        return KlinePage(orjson.dumps(rows), len(rows), bool(rows) and high <= closed)

    def day_statistics(self, symbol: str, now_ms: int) -> DayStatistics:
        """Return the rolling day of the finest interval; without recorded quote volume, close * volume."""
        recording = self._finest(symbol)
        bars, length = recording.bars, INTERVAL_MS[recording.interval]
        low = int(np.searchsorted(bars.open_time, now_ms - max(DAY_MS, length), side="right"))
        high = int(np.searchsorted(bars.open_time, now_ms, side="right"))
        if low >= high:
            return no_statistics(symbol, now_ms)
        day = _as_of(bars, slice(low, high), now_ms, length)
        quote = day.quote_volume if recording.complete else day.prices[3] * day.volume
        last = float(day.prices[3, -1])
        return DayStatistics(
            symbol=symbol,
            open_time=now_ms - DAY_MS,
            close_time=now_ms,
            open=float(day.prices[0, 0]),
            high=float(day.prices[1].max()),
            low=float(day.prices[2].min()),
            last=last,
            previous_close=float(bars.prices[3, low - 1]) if low else float(day.prices[0, 0]),
            last_quantity=float(day.volume[-1]) / max(int(day.trades[-1]), 1),
            volume=float(day.volume.sum()),
            quote_volume=float(quote.sum()),
            trades=int(day.trades.sum()),
            tick=10.0 ** -_instrument(recording).tick_decimals,
        )

    def _finest(self, symbol: str) -> Recording:
        return min(self._by_symbol[symbol], key=lambda recording: INTERVAL_MS[recording.interval])


def _cut(low: int, high: int, query: KlineQuery) -> tuple[int, int]:
    """Apply the limit: the oldest from a start time, otherwise the newest."""
    if query.start_time is None:
        return max(low, high - query.limit), high
    return low, max(low, min(high, low + query.limit))


def _as_of(bars: Bars, rows: slice, now_ms: int, length: int) -> Bars:
    """Return some rows as copies, the last one as far as it has come by now."""
    cut = Bars(**{name: column[..., rows] for name, column in vars(bars).items()})
    elapsed = (now_ms - int(cut.open_time[-1])) / length
    if elapsed >= 1:
        return cut
    tail = partial_row(bars, rows.stop - 1, elapsed)
    return Bars(
        **{
            name: np.concatenate((column[..., :-1], getattr(tail, name)), axis=-1)
            for name, column in vars(cut).items()
        }
    )


def _status(recordings: list[Recording], now_ms: int) -> str:
    """Return how a symbol is traded: not any more where its recordings have ended.

    Files of one folder seldom end at the same minute. So a symbol is called delisted (BREAK) a day after its last bar
    of any interval, and before that, or while only some intervals have ended, halted (HALT).
    """
    if all(now_ms - recording.end_ms >= DAY_MS for recording in recordings):
        return "BREAK"
    return "HALT" if any(recording.end_ms < now_ms for recording in recordings) else "TRADING"


def _instrument(recording: Recording) -> Instrument:
    """Describe a symbol; its decimals are the most that the recording's first and last bars show."""
    ends = np.r_[0 : min(_SAMPLE, recording.rows), max(recording.rows - _SAMPLE, 0) : recording.rows]
    ticks = decimals_of(decimal_texts(recording.bars.prices[:, ends].ravel()))
    steps = decimals_of(decimal_texts(recording.bars.volume[ends]))
    return Instrument(recording.symbol, recording.base, recording.quote, "TRADING", ticks, steps)


def _find(folder: Path) -> dict[tuple[str, str], Recording]:
    if not folder.is_dir():
        raise ExchangeSetupError(
            f"there is no folder {folder}",
            where="--replay",
            remedy="give a folder of <SYMBOL>_<interval>.parquet files",
        )
    found: dict[tuple[str, str], Recording] = {}
    for path in sorted(folder.rglob("*.parquet")):
        recording = open_recording(path)
        key = (recording.symbol, recording.interval)
        if key in found:
            raise ExchangeSetupError(
                f"{recording.symbol} {recording.interval} was recorded twice",
                where=f"{found[key].path} and {path}",
                remedy="replay one of the sub-folders, or move one of the files away",
            )
        found[key] = recording
    if not found:
        raise ExchangeSetupError(
            f"no .parquet file in {folder}",
            where="--replay",
            remedy="give a folder of <SYMBOL>_<interval>.parquet files",
        )
    return found
