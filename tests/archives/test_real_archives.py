"""Real data, two ways in: the exchange's own archive files, and the same bars by REST, bit for bit the same."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from market.archives.client import ArchiveClient
from market.archives.names import monthly, parse_path
from market.archives.rows import parse
from market.archives.unzip import unzip
from market.backfill import BackfillReport, backfill
from market.client import ExchangeClient
from market.exchange.launch import start_exchange
from market.ingest import ingest_sync, run_sync
from market.klines import KLINE_COLUMNS
from market.store import KlineStore

from .conftest import DAY, JUNE, FileHost

NOVEMBER = 1_730_419_200_000  # 2024-11-01: two months in ms, then five in µs
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def test_real_archives_and_a_replay_give_the_same_bits(
    shared_data: Path, host: FileHost, home: Path, tmp_path: Path
) -> None:
    published = sorted((shared_data / "binance_archive_csv").glob("*.csv"))
    assert len(published) == 14
    for path in published:
        symbol, interval, date = path.stem.split("-", 2)
        file = parse_path(f"data/spot/monthly/klines/{symbol}/{interval}/{symbol}-{interval}-{date}.zip")
        assert file is not None
        host.put(file, path.read_bytes())

    async def by_archive(store: KlineStore, url: str) -> BackfillReport:
        async with ExchangeClient(url) as client, ArchiveClient(host.url) as archives:
            # A month of hours fits in one request: by itself a backfill would ask REST for them.
            span = {"start": NOVEMBER, "end": JUNE}
            return await backfill(client, archives, store, SYMBOLS, ["1h"], **span, requests_per_file=0)

    folder = shared_data / "klines" / "binance_spot_12col"
    with (
        start_exchange(replay=folder, now=JUNE + 8 * DAY, speed=0, weight_limit=0) as exchange,
        KlineStore.open(home) as archived,
        KlineStore.open(tmp_path / "by REST") as asked,
    ):
        report = run_sync(lambda: by_archive(archived, exchange.url))
        assert exchange.info()["served"]["routes"].get("/api/v3/klines") is None, "nothing was left for REST"
        ingest_sync(exchange.url, asked, SYMBOLS, ["1h"], start=NOVEMBER, end=JUNE)
        bars = archived.scan("1h").collect()
        assert bars.equals(asked.scan("1h").collect())
    assert report.archives.count("stored") == 14
    assert report.archives.total("refused") == 0
    assert report.inserted == bars.height == 2 * 5_088
    for symbol in SYMBOLS:
        recorded = pl.read_parquet(folder / f"{symbol}_1h.parquet")
        ours = bars.filter(pl.col("symbol") == symbol).select(KLINE_COLUMNS)
        for name in KLINE_COLUMNS:
            assert ours[name].equals(recorded[name].cast(ours[name].dtype)), name


def test_the_exchanges_own_archive_of_a_replay_is_the_published_one(shared_data: Path) -> None:
    """The built-in exchange replays the recorded bars; its archives hold the numbers of the real ones."""
    folder = shared_data / "klines" / "binance_spot_12col"
    with start_exchange(replay=folder, now=JUNE + 8 * DAY, speed=0) as exchange:
        for path in sorted((shared_data / "binance_archive_csv").glob("BTCUSDT-1h-2024-1[12].csv")) + sorted(
            (shared_data / "binance_archive_csv").glob("BTCUSDT-1h-2025-01.csv")
        ):
            real = path.read_bytes()
            start = int(real[:13])
            file = monthly("spot", "BTCUSDT", "1h", start)
            assert file.stem == path.stem

            async def fetch(file=file, url=exchange.url) -> bytes:  # type: ignore[no-untyped-def]
                async with ArchiveClient(url) as archives:
                    return (await archives.fetch(file)).body

            made, published = parse(file, unzip(file, run_sync(fetch))), parse(file, real)
            assert made.good.equals(published.good)
            assert made.unit == published.unit == ("us" if file.first_day.year == 2025 else "ms")
