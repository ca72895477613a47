"""Reading a folder of Parquet bars, whoever wrote them, into a panel on one time grid."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from market.intervals import INTERVAL_MS, grid_origin, interval_ms
from market.store import Panel

REQUIRED = ("open", "high", "low", "close", "volume")
PRICES = REQUIRED[:4]
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

    Rows that cannot be bars (off the grid of the interval, a price or volume that is absent, not finite or out of its
    range, high below low) are left out; of several rows for one bar the last is taken. Bars that a symbol lacks are
    NaN, and so are such values of the further columns. Files whose names end in no interval are passed over.

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
        No such file, a symbol without one, a file that cannot be read, columns that are absent or no numbers, or no bar
        in the span.
    """
    files = _files(folder, interval, symbols)
    interval = next(iter(files.values())).stem.rsplit("_", 1)[1]
    step = interval_ms(interval)
    frames = {symbol: _bars(file, interval, since_ms, until_ms) for symbol, file in files.items()}
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
            values[place, at] = frame[name].to_numpy()
    if last is not None:
        times, columns = times[-last:], {name: values[-last:] for name, values in columns.items()}
    return Panel(times, tuple(frames), interval, columns)


def _files(folder: Path, interval: str | None, symbols: tuple[str, ...]) -> dict[str, Path]:
    ending = interval or "*"
    groups = [folder, *sorted(path for path in folder.glob("*/") if path.is_dir())]
    here = {group: [p for p in sorted(group.glob(f"*_{ending}.parquet")) if _known(p)] for group in groups}
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


def _known(file: Path) -> bool:
    return file.stem.rsplit("_", 1)[1] in INTERVAL_MS


def _bars(file: Path, interval: str, since_ms: int | None, until_ms: int | None) -> pl.DataFrame:
    frame = _read(file)
    time, low, high = pl.col("open_time"), pl.col("low"), pl.col("high")
    on_grid = (time - grid_origin(interval)) % interval_ms(interval) == 0
    positive = pl.all_horizontal(pl.col(name) > 0 for name in PRICES)
    finite = pl.all_horizontal(pl.col(name).is_finite() for name in REQUIRED)
    sound = on_grid & finite & positive & (low <= high) & (pl.col("volume") >= 0)
    if since_ms is not None:
        sound &= time >= since_ms
    if until_ms is not None:
        sound &= time < until_ms
    return frame.filter(sound).unique("open_time", keep="last", maintain_order=True).sort("open_time")


def _read(file: Path) -> pl.DataFrame:
    """Read a file's columns, open times as ms since epoch and all others as float."""
    try:
        frame = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise NoBarsError(f"{file} cannot be read as Parquet: {_first_line(error)}") from error
    absent = [name for name in ("open_time", *REQUIRED) if name not in frame.columns]
    if absent:
        raise NoBarsError(f"{file} has no column {', '.join(absent)}")
    time = pl.col("open_time")
    if frame.schema["open_time"].is_temporal():
        time = time.dt.epoch("ms")
    numbers = [pl.col(name).cast(pl.Float64) for name in REQUIRED]
    further = [pl.col(name).cast(pl.Float64) for name in OPTIONAL if name in frame.columns]
    counts = [pl.when(column.is_finite() & (column >= 0)).then(column) for column in further]
    try:
        return frame.select(time.cast(pl.Int64), *numbers, *counts)
    except pl.exceptions.PolarsError as error:
        raise NoBarsError(f"{file} holds what is no number: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
