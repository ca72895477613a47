"""Backfill from monthly archives of 1m bars: from zip to the durable store, against pandas and Parquet."""

from __future__ import annotations

import asyncio
import zipfile
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pandas as pd

from benchmarks.ingestion.measure import (
    Figures,
    Timing,
    bytes_under,
    in_turns,
    middle,
    process_cpu_s,
    scratch_folder,
    timed,
)
from market.archives.client import ArchiveClient
from market.backfill import backfill
from market.client import ExchangeClient
from market.exchange.launch import RunningExchange, start_exchange
from market.klines import KLINE_COLUMNS
from market.store import KlineStore

_NOW = "2025-05-08"  # the monthly files of April are out: they come on the first Monday of May
_MONTHS = {  # how many months: first open time, end
    1: (1_743_465_600_000, 1_746_057_600_000),  # 2025-04
    3: (1_738_368_000_000, 1_746_057_600_000),  # 2025-02 to 2025-04
}


@dataclass(frozen=True)
class Sizes:
    """How many symbols and months (1 or 3): what fits into the 128 MiB that the exchange keeps of made files."""

    symbols: int = 12
    months: int = 3
    rounds: int = 3


FULL, QUICK = Sizes(), Sizes(symbols=4, months=1, rounds=2)


@dataclass
class Run:
    """One run: its time, the server's CPU time in it, and how many rows lie on disk in how many bytes."""

    timing: Timing
    server_cpu_s: float
    rows: int
    bytes: int


def run(sizes: Sizes, scratch: Path) -> Figures:
    """Take the same files in turns; stop where one of the two has more or fewer bars."""
    with (
        start_exchange(symbols=sizes.symbols, now=_NOW, speed=0, weight_limit=0) as exchange,
        scratch_folder(scratch, "zips") as zips,
    ):
        symbols = exchange.info()["symbols"]
        files = asyncio.run(_download(exchange, symbols, sizes, zips))  # from here on they are made
        results = in_turns(
            {
                "klinecast": lambda: _ours(exchange, symbols, sizes, scratch),
                "pandas": lambda: _pandas(files, scratch),
            },
            sizes.rounds,
        )
        return _figures(results, files)


async def _download(exchange: RunningExchange, symbols: list[str], sizes: Sizes, folder: Path) -> list[Path]:
    months = [f"2025-{month:02d}" for month in range(5 - sizes.months, 5)]
    paths = []
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        for symbol in symbols:
            for month in months:
                name = f"{symbol}-1m-{month}.zip"
                url = f"{exchange.url}/data/spot/monthly/klines/{symbol}/1m/{name}"
                async with session.get(url) as answer:
                    paths.append(folder / name)
                    paths[-1].write_bytes(await answer.read())
    return paths


def _ours(exchange: RunningExchange, symbols: list[str], sizes: Sizes, scratch: Path) -> Run:
    """Let the platform's own backfill fetch, check, read and store the files."""
    start, end = _MONTHS[sizes.months]

    async def work(store: KlineStore) -> None:
        async with ExchangeClient(exchange.url) as client, ArchiveClient(exchange.url) as archives:
            report = await backfill(client, archives, store, symbols, ["1m"], start=start, end=end)
        if report.archives.failures or report.ingest.total("inserted"):
            raise SystemExit(f"not all came from archives: {report}")

    with scratch_folder(scratch, "archives") as home, KlineStore.open(home) as store:
        before = process_cpu_s(exchange.pid)
        with timed() as timing:
            asyncio.run(work(store))
        server_cpu_s = process_cpu_s(exchange.pid) - before
        rows = int(store.spans("1m")["rows"].sum())
        return Run(timing, server_cpu_s, rows, bytes_under(home))


def _pandas(files: list[Path], scratch: Path) -> Run:
    """Turn zips that are on disk into a Parquet file each, as scripts do; nothing is checked."""
    with scratch_folder(scratch, "pandas") as folder:
        rows = 0
        with timed() as timing:
            for path in files:
                frame = pd.read_csv(path, header=None, names=[*KLINE_COLUMNS, "ignore"])
                frame = frame.drop(columns="ignore")
                for name in ("open_time", "close_time"):
                    frame[name] //= 1_000  # the files of 2025 are in µs
                frame.to_parquet(folder / f"{path.stem}.parquet", compression="zstd")
                rows += len(frame)
        return Run(timing, 0.0, rows, bytes_under(folder))


def _figures(results: dict[str, list[Run]], files: list[Path]) -> Figures:
    ours, pandas = results["klinecast"], results["pandas"]
    rows = ours[0].rows
    counts = sorted({one.rows for one in (*ours, *pandas)})
    if len(counts) != 1:
        raise SystemExit(f"not everyone has the same number of bars: {counts}")
    csv_bytes = sum(entry.file_size for path in files for entry in zipfile.ZipFile(path).infolist())
    cpu, wall = middle([run.timing.cpu_s for run in ours]), middle([run.timing.wall_s for run in ours])
    pandas_cpu = middle([run.timing.cpu_s for run in pandas])
    return {
        "archive_rows": rows,
        "archive_files": len(files),
        "archive_zip_bytes_per_row": sum(path.stat().st_size for path in files) / rows,
        "archive_csv_bytes_per_row": csv_bytes / rows,
        "archive_rows_per_s": rows / cpu,
        "archive_rows_per_s_wall": rows / wall,
        "archive_cores_used": cpu / wall,
        "archive_server_cpu_share": middle([run.server_cpu_s / run.timing.wall_s for run in ours]),
        "archive_rows_per_s_pandas": rows / pandas_cpu,
        "archive_rows_per_s_wall_pandas": rows / middle([run.timing.wall_s for run in pandas]),
        "archive_ratio_pandas": pandas_cpu / cpu,
        "archive_bytes_per_row": ours[0].bytes / rows,
        "archive_bytes_per_row_pandas": pandas[0].bytes / rows,
    }
