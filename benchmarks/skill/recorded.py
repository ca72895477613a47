"""Reading a folder of Parquet bars, whoever wrote them, into a panel on one time grid."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from market.intervals import interval_ms
from market.store import Panel

REQUIRED = ("open", "high", "low", "close", "volume")
OPTIONAL = ("quote_volume", "trades", "taker_buy_base")


class NoBarsError(Exception):
    """The folder holds nothing that can be judged; the message says what it lacks."""


def recorded_panel(
    folder: Path,
    *,
    interval: str | None = None,
    symbols: tuple[str, ...] = (),
    since_ms: int | None = None,
    until_ms: int | None = None,
    last: int | None = None,
) -> Panel:
    """Read `<SYMBOL>_<interval>.parquet` files of a folder, or of the sub-folder that holds the most of them.

    Rows that cannot be bars (off the grid of the interval, prices that are not positive, high below low) are left
    out; of several rows for one bar the last is taken. Bars that a symbol lacks are NaN.

    Parameters
    ----------
    folder
        Where the files lie.
    interval
        Such as "15m"; by default the one with the most files.
    symbols
        Which symbols; by default all.
    since_ms, until_ms
        Bars with an open time in [since_ms, until_ms), ms since epoch, UTC.
    last
        Only the newest so many bars of the time grid.

    Raises
    ------
    NoBarsError
        No such file, a symbol without one, columns that are absent, or no bar in the span.
    """
    files = _files(folder, interval, symbols)
    interval = next(iter(files.values())).stem.rsplit("_", 1)[1]
    step = interval_ms(interval)
    frames = {symbol: _bars(file, step, since_ms, until_ms) for symbol, file in files.items()}
    frames = {symbol: frame for symbol, frame in frames.items() if frame.height}
    if not frames:
        raise NoBarsError(f"no bar of {interval} in the span asked for in {folder}")
    first = min(int(frame["open_time"][0]) for frame in frames.values())
    newest = max(int(frame["open_time"][-1]) for frame in frames.values())
    times = np.arange(first, newest + step, step, dtype=np.int64)
    names = [*REQUIRED, *(c for c in OPTIONAL if all(c in frame.columns for frame in frames.values()))]
    columns = {name: np.full((len(times), len(frames)), np.nan) for name in names}
    for at, frame in enumerate(frames.values()):
        place = ((frame["open_time"] - first) // step).to_numpy()
        for name, values in columns.items():
            values[place, at] = frame[name].cast(pl.Float64).to_numpy()
    if last is not None:
        times, columns = times[-last:], {name: values[-last:] for name, values in columns.items()}
    return Panel(times, tuple(frames), interval, columns)


def _files(folder: Path, interval: str | None, symbols: tuple[str, ...]) -> dict[str, Path]:
    ending = interval or "*"
    groups = [folder, *sorted(path for path in folder.glob("*/") if path.is_dir())]
    here = {group: sorted(group.glob(f"*_{ending}.parquet")) for group in groups}
    group = folder if here[folder] else max(groups, key=lambda path: len(here[path]))
    found = here[group]
    if interval is None and found:
        counted = Counter(path.stem.rsplit("_", 1)[1] for path in found)
        interval = max(sorted(counted), key=lambda name: counted[name])
        found = [path for path in found if path.stem.endswith(f"_{interval}")]
    files = {path.stem.rsplit("_", 1)[0]: path for path in found}
    absent = [symbol for symbol in symbols if symbol not in files]
    if absent or not files:
        what = f"no file of {', '.join(absent)}" if absent else "no file"
        raise NoBarsError(f"{what} named <SYMBOL>_{interval or '<interval>'}.parquet in {group}")
    return {symbol: files[symbol] for symbol in symbols} if symbols else files


def _bars(file: Path, step: int, since_ms: int | None, until_ms: int | None) -> pl.DataFrame:
    frame = pl.read_parquet(file)
    absent = [name for name in ("open_time", *REQUIRED) if name not in frame.columns]
    if absent:
        raise NoBarsError(f"{file} has no column {', '.join(absent)}")
    time, low = pl.col("open_time"), pl.col("low")
    sound = (time % step == 0) & (low > 0) & (low <= pl.col("high")) & (pl.col("volume") >= 0)
    if since_ms is not None:
        sound &= time >= since_ms
    if until_ms is not None:
        sound &= time < until_ms
    return frame.filter(sound).unique("open_time", keep="last", maintain_order=True).sort("open_time")
