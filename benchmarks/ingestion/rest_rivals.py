"""REST backfill as it is done elsewhere: ccxt with pandas and CSV, and the steps of freqtrade, over ccxt too.

The freqtrade ways are its steps, written anew: ccxt's `fetch_ohlcv` with 1,000 bars; a data frame with UTC dates and
floats; rows grouped by date (first open, highest high, lowest low, last close, largest volume), which removes
duplicates; the pair's feather file (LZ4, level 9) loaded and cleaned, the new rows appended, all cleaned once more, the
file written anew. None of the rivals waits for its files to be on disk, nor checks a bar.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import ccxt
import ccxt.async_support
import orjson
import pandas as pd
import polars as pl

PAGE, MINUTE_MS = 1_000, 60_000
COLUMNS = ["date", "open", "high", "low", "close", "volume"]
_CLEANED = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "max"}
_PAGES_AT_ONCE = 100  # of one pair, as freqtrade has it


@dataclass(frozen=True)
class Task:
    """What everyone has to fetch: 1m bars of some symbols that open in [start, end), ms."""

    url: str
    symbols: tuple[str, ...]
    start: int
    end: int
    concurrency: int


def configure(client: Any, url: str) -> Any:
    """Point a ccxt client at another host; no pauses between requests."""
    client.enableRateLimit = False
    client.has["fetchCurrencies"] = False
    client.options.update(defaultType="spot", fetchMarkets={"types": ["spot"]}, fetchCurrencies=False)
    for name, address in client.urls["api"].items():
        if isinstance(address, str) and "/api/v" in address:
            client.urls["api"][name] = url + address[address.index("/api/v") :]
        else:
            client.urls["api"][name] = url + "/not-served"
    return client


async def touch(task: Task, *, in_steps: bool) -> None:
    """Ask for the very pages that a rival will ask for, so that the server has rendered them when its time counts.

    Parameters
    ----------
    in_steps
        Each page begins 1,000 bars after the one before; otherwise, where that one ended.
    """
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        for symbol in task.symbols:
            since = task.start
            while since < task.end:
                wish = {"symbol": symbol, "interval": "1m", "startTime": str(since), "limit": str(PAGE)}
                async with session.get(f"{task.url}/api/v3/klines", params=wish) as answer:
                    rows = orjson.loads(await answer.read())
                if not rows:
                    break
                since = since + PAGE * MINUTE_MS if in_steps else rows[-1][0] + MINUTE_MS


class CcxtSync:
    """The loop that most scripts have: symbol by symbol, a page at a time, appended to the symbol's CSV file."""

    in_steps = False

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, folder: Path) -> None:
        """Fetch everything into `folder`."""
        client = configure(ccxt.binance(), self._task.url)
        client.load_markets()
        for symbol in self._task.symbols:
            since = self._task.start
            while since < self._task.end:
                page = client.fetch_ohlcv(_pair(client, symbol), "1m", since, PAGE)
                if not page:
                    break
                since = page[-1][0] + MINUTE_MS
                append_csv(folder / f"{symbol}.csv", page, self._task.end)


class _Async:
    """Runs `fetch` for all symbols, `concurrency` at once."""

    in_steps = False

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, folder: Path) -> None:
        """Fetch everything into `folder`."""
        asyncio.run(self._run(folder))

    async def _run(self, folder: Path) -> None:
        client = configure(ccxt.async_support.binance(), self._task.url)
        slots = asyncio.Semaphore(self._at_once)

        async def one(symbol: str) -> None:
            async with slots:
                await self.fetch(client, symbol, folder)

        try:
            await client.load_markets()
            await asyncio.gather(*(one(symbol) for symbol in self._task.symbols))
        finally:
            await client.close()

    @property
    def _at_once(self) -> int:
        return self._task.concurrency

    async def fetch(self, client: Any, symbol: str, folder: Path) -> None:
        """Fetch the bars of one symbol."""
        raise NotImplementedError

    async def pages(self, client: Any, symbol: str) -> AsyncIterator[list[list[float]]]:
        """Page through a symbol's bars, each request from where the page before it ended."""
        since = self._task.start
        while since < self._task.end:
            page = await client.fetch_ohlcv(_pair(client, symbol), "1m", since, PAGE)
            if not page:
                break
            since = page[-1][0] + MINUTE_MS
            yield page


class CcxtAsync(_Async):
    """The same with several symbols at once."""

    async def fetch(self, client: Any, symbol: str, folder: Path) -> None:
        """Append each page to the symbol's CSV file."""
        async for page in self.pages(client, symbol):
            append_csv(folder / f"{symbol}.csv", page, self._task.end)


class FreqtradePages(_Async):
    """A page at a time and several pairs at once; after every page the pair's feather file is rewritten."""

    async def fetch(self, client: Any, symbol: str, folder: Path) -> None:
        """Update the pair's file with each page, as a run does that finds a file and newer bars."""
        async for page in self.pages(client, symbol):
            update_feather(folder / f"{symbol}.feather", page, self._task.end)


class FreqtradeDownload(_Async):
    """What its `download-data` does for new pairs: one pair after another, its pages side by side, one file."""

    in_steps = True

    @property
    def _at_once(self) -> int:
        return 1

    async def fetch(self, client: Any, symbol: str, folder: Path) -> None:
        """Ask when the pair was listed, then for all pages in chunks, then write the file."""
        pair = _pair(client, symbol)
        await client.fetch_ohlcv(pair, "1m", 0, PAGE)
        starts = list(range(self._task.start, self._task.end, PAGE * MINUTE_MS))
        rows: list[list[float]] = []
        for at in range(0, len(starts), _PAGES_AT_ONCE):
            asked = (
                client.fetch_ohlcv(pair, "1m", since, PAGE) for since in starts[at : at + _PAGES_AT_ONCE]
            )
            for page in await asyncio.gather(*asked):
                rows.extend(page)
        rows.sort(key=lambda row: row[0])
        update_feather(folder / f"{symbol}.feather", rows, self._task.end)


def _pair(client: Any, symbol: str) -> str:
    return str(client.markets_by_id[symbol][0]["symbol"])


def append_csv(path: Path, page: Sequence[Sequence[float]], end: int) -> None:
    """Append a page to a CSV file by pandas."""
    frame = pd.DataFrame(page, columns=COLUMNS)
    frame = frame[frame["date"] < end]
    frame.to_csv(path, mode="a", header=not path.exists(), index=False)


def update_feather(path: Path, rows: Sequence[Sequence[float]], end: int) -> None:
    """Merge rows into a feather file: read, append, clean, write all of it."""
    new = pd.DataFrame(rows, columns=COLUMNS)
    new["date"] = pd.to_datetime(new["date"], unit="ms", utc=True).dt.floor("1min")
    new = _cleaned(new.astype(dict.fromkeys(COLUMNS[1:], "float")))
    new = new[new["date"] < pd.Timestamp(end, unit="ms", tz="UTC")]
    if path.exists():
        stored = pd.read_feather(path)
        stored = _cleaned(stored.astype(dict.fromkeys(COLUMNS[1:], "float")))
        new = _cleaned(pd.concat([stored, new], axis=0))
    new.reset_index(drop=True).to_feather(path, compression="lz4", compression_level=9)


def _cleaned(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.groupby(by="date", as_index=False, sort=True).agg(_CLEANED)


def bars_on_disk(folder: Path) -> pl.DataFrame:
    """Read what a rival has left, as symbol, open_time (ms), open, high, low, close and volume."""
    frames = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".csv":
            frame = pl.from_pandas(pd.read_csv(path, float_precision="round_trip"))
        else:
            frame = pl.from_pandas(pd.read_feather(path)).with_columns(pl.col("date").dt.epoch("ms"))
        named = frame.rename({"date": "open_time"}).with_columns(pl.lit(path.stem).alias("symbol"))
        frames.append(named.select("symbol", pl.col("open_time").cast(pl.Int64), *COLUMNS[1:]))
    return pl.concat(frames).sort("symbol", "open_time")
