"""A year of 1m bars: how small it lies and how fast three columns come out, against a file per symbol and month."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from benchmarks.ingestion.made_bars import DAY_MS, START_MS, BarMaker, names
from benchmarks.ingestion.measure import Figures, Timing, bytes_under, in_turns, middle, scratch_folder, timed
from market.intervals import interval_ms
from market.store import KlineStore

COLUMNS = ("open_time", "close", "volume")
INTERVAL = "1m"


@dataclass(frozen=True)
class Sizes:
    """How many symbols and months (of 30 days; a year has 365), and how often each scan is timed."""

    symbols: int = 100
    days: int = 365
    rounds: int = 5


FULL, QUICK = Sizes(), Sizes(symbols=10, days=60, rounds=3)
_CHUNK_DAYS = 30


def run(sizes: Sizes, scratch: Path) -> Figures:
    """Write the same bars both ways, then scan them in turns and require the same answer."""
    with (
        scratch_folder(scratch, "store") as home,
        scratch_folder(scratch, "files") as folder,
        KlineStore.open(home, grace_ms=0) as store,
    ):
        writing, rivals_writing = Timing(), Timing()
        rows = 0
        for bars in made_bars(names(sizes.symbols), INTERVAL, sizes.days):
            rows += bars.height
            with timed() as took:
                store.write(INTERVAL, bars, bulk=True, trusted=True)
            writing += took
            with timed() as took:
                write_apart(folder, bars)
            rivals_writing += took
        with timed() as tidying:
            tidy(store, sizes.days)
        figures = _scan(sizes, store, folder, rows)
        figures |= {
            "scan_rows": rows,
            "bulk_write_rows_per_s": rows / writing.wall_s,
            "bulk_write_cpu_us_per_row": writing.cpu_s / rows * 1e6,
            "compaction_cpu_us_per_row": tidying.cpu_s / rows * 1e6,
            "files_write_rows_per_s": rows / rivals_writing.wall_s,
            "bytes_per_row": bytes_under(home / "klines", "*.parquet") / rows,
            "files_bytes_per_row": bytes_under(folder) / rows,
            "store_files": len(list((home / "klines").rglob("*.parquet"))),
            "rivals_files": len(list(folder.rglob("*.parquet"))),
        }
    return figures


def made_bars(symbols: list[str], interval: str, days: int) -> Iterator[pl.DataFrame]:
    """Yield the bars of all symbols, some weeks at a time, as a backfill brings them."""
    maker = BarMaker(symbols, interval)
    for done in range(0, days, _CHUNK_DAYS):
        yield maker.next(min(_CHUNK_DAYS, days - done) * DAY_MS // interval_ms(interval))


def tidy(store: KlineStore, days: int) -> None:
    """Do what the platform does every day: move hot bars into files, merge small ones, drop superseded ones."""
    store.roll(START_MS + days * DAY_MS)
    store.compact(START_MS + (days + 31) * DAY_MS)
    store.roll(0)


def write_apart(folder: Path, bars: pl.DataFrame) -> None:
    """Write a Parquet file per symbol and month, zstd, as Polars does by itself; the path names the symbol."""
    month = pl.from_epoch("open_time", "ms").dt.strftime("%Y-%m").alias("month")
    for (symbol, name), part in (
        bars.with_columns(month).partition_by("symbol", "month", as_dict=True).items()
    ):
        path = folder / str(symbol) / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        bars_of_month = part.drop("symbol", "month")
        if path.exists():  # a month that two stretches share
            bars_of_month = pl.concat([pl.read_parquet(path), bars_of_month])
        bars_of_month.write_parquet(path, compression="zstd")


def _scan(sizes: Sizes, store: KlineStore, folder: Path, rows: int) -> Figures:
    paths = sorted(folder.rglob("*.parquet"))
    one = names(sizes.symbols)[sizes.symbols // 2]
    ones_paths = sorted((folder / one).iterdir())
    ways: dict[str, Callable[[], pl.DataFrame]] = {
        "scan": lambda: store.scan(INTERVAL, columns=COLUMNS).collect(),
        "files_scan": lambda: pl.scan_parquet(paths).select(COLUMNS).collect(),
        "one": lambda: store.scan(INTERVAL, [one], columns=COLUMNS).collect(),
        "files_one": lambda: pl.scan_parquet(ones_paths).select(COLUMNS).collect(),
    }
    if not ways["scan"]().equals(ways["files_scan"]()) or not ways["one"]().equals(ways["files_one"]()):
        raise SystemExit("the store and the files do not hold the same bars")
    times = in_turns({name: _timing(way) for name, way in ways.items()}, sizes.rounds)
    wall = {name: middle([timing.wall_s for timing in timings]) for name, timings in times.items()}
    return {
        "scan_rows_per_s": rows / wall["scan"],
        "files_scan_rows_per_s": rows / wall["files_scan"],
        "scan_ratio_files": wall["files_scan"] / wall["scan"],
        "scan_one_symbol_ms": wall["one"] * 1e3,
        "files_scan_one_symbol_ms": wall["files_one"] * 1e3,
    }


def _timing(way: Callable[[], pl.DataFrame]) -> Callable[[], Timing]:
    def run() -> Timing:
        with timed() as timing:
            way()
        return timing

    return run
