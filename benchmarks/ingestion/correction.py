"""What it costs to correct one bar of a compacted file: `python -m benchmarks.ingestion.correction`.

A late correction is hot until the next roll, which writes the file anew that holds its day: at most 4,000,000 bars.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from market.store import KlineStore

_MINUTE, _DAY = 60_000, 86_400_000
_MONTH = 1_704_067_200_000  # January 2024
_DAYS, _SYMBOLS = 31, 89  # together just less than the 4,000,000 bars of the largest file


def measure() -> dict[str, float]:
    """Fill a month, compact it, correct one bar; returns bars of the file, and seconds of the write and the roll."""
    with tempfile.TemporaryDirectory() as home, KlineStore.open(Path(home)) as store:
        for day in range(_DAYS):
            store.write("1m", _bars(day), bulk=True)
        store.roll(_MONTH + _DAYS * _DAY)
        store.compact(_MONTH + 2 * _DAYS * _DAY)
        corrected = _bars(10).head(1).with_columns(high=pl.lit(1_000.0))
        started = time.perf_counter()
        written = store.write("1m", corrected)
        write_s = time.perf_counter() - started
        started, cpu_started = time.perf_counter(), time.process_time()
        store.roll(_MONTH + _DAYS * _DAY)
        return {
            "bars_of_the_file": _DAYS * _SYMBOLS * 1_440,
            "bars_corrected": written.rows_updated,
            "write_s": write_s,
            "roll_s": time.perf_counter() - started,
            "roll_cpu_s": time.process_time() - cpu_started,
        }


def _bars(day: int) -> pl.DataFrame:
    random = np.random.default_rng(day)
    rows = 1_440 * _SYMBOLS
    opened = np.tile(_MONTH + day * _DAY + np.arange(1_440) * _MINUTE, _SYMBOLS)
    price = np.round(100 + random.standard_normal(rows).cumsum() * 0.001, 2)
    volume = np.round(random.random(rows) * 100, 3)
    return pl.DataFrame(
        {
            "symbol": np.repeat([f"S{number:03d}USDT" for number in range(_SYMBOLS)], 1_440),
            "open_time": opened,
            "open": price,
            "high": price + 1,
            "low": price - 1,
            "close": price,
            "volume": volume,
            "close_time": opened + _MINUTE - 1,
            "quote_volume": volume * 100,
            "trades": np.full(rows, 5),
            "taker_buy_base": volume / 2,
            "taker_buy_quote": volume * 50,
        }
    )


if __name__ == "__main__":
    print(json.dumps(measure()))
