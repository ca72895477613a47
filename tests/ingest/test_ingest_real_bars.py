"""Real bars, replayed through the exchange's protocol and ingested in two steps: the same, bit for bit."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from market.exchange.launch import start_exchange
from market.ingest import ingest_sync
from market.store import KlineStore

OHLCV = ("open_time", "open", "high", "low", "close", "volume")
SYMBOLS = ("BTCUSDT", "DOGEUSDT", "XRPUSDT", "TRXUSDT")
QUARTER_HOUR = 900_000


def test_recent_futures_bars_arrive_bit_for_bit(shared_data: Path, store: KlineStore) -> None:
    folder = shared_data / "klines" / "binance_um_recent"
    wanted = {
        symbol: pl.read_parquet(folder / f"{symbol}_15m.parquet", columns=list(OHLCV)) for symbol in SYMBOLS
    }
    end = min(frame["open_time"].max() for frame in wanted.values())  # type: ignore[type-var]
    start = end - 10_000 * QUARTER_HOUR  # through the crash of 2025-10-10
    with start_exchange(replay=folder, speed=0, weight_limit=0) as exchange:
        for until in (start + 4_321 * QUARTER_HOUR, end):
            report = ingest_sync(exchange.url, store, SYMBOLS, ["15m"], start=start, end=until)
            assert report.failures == []
            assert report.total("refused") == 0
        served = exchange.info()["served"]["total"]
    assert served["rows"] == 10_000 * len(SYMBOLS), "each bar was asked for once"
    for symbol, frame in wanted.items():
        expected = frame.filter(pl.col("open_time").is_between(start, end, closed="left"))
        assert expected.height == 10_000
        assert store.scan("15m", [symbol]).select(OHLCV).collect().equals(expected)


def test_real_outages_are_ledgered_exactly(shared_data: Path, store: KlineStore) -> None:
    folder = shared_data / "klines" / "binance_spot_outages"
    hour = 3_600_000
    with start_exchange(replay=folder, speed=0, weight_limit=0) as exchange:
        start = 1_617_580_800_000  # 2021-04-05, a few hours after the recordings begin
        symbols = ["BTCUSDT", "LUNAUSDT"]
        end = 1_703_894_400_000  # 2023-12-30, before the first of the recordings ends
        report = ingest_sync(exchange.url, store, symbols, ["1h"], start=start, end=end)
        exchange.reset_counters()
        ingest_sync(exchange.url, store, symbols, ["1h"], start=start, end=end)
        assert exchange.info()["served"]["total"]["requests"] == 1
    assert report.failures == []
    for symbol in symbols:
        source = pl.read_parquet(folder / f"{symbol}_1h.parquet")
        source = source.filter(pl.col("open_time").is_between(start, end, closed="left"))
        stored = store.scan("1h", [symbol]).select(OHLCV).collect()
        assert stored.equals(source.select(OHLCV))
        jumps = stored.with_columns(before=pl.col("open_time").shift(1)).filter(
            pl.col("open_time").diff() > hour
        )
        holes = [(before + hour, at, "outage") for before, at in jumps.select("before", "open_time").rows()]
        assert holes
        ledger = store.gaps("1h", [symbol]).sort("start_time").select("start_time", "end_time", "cause")
        assert ledger.rows() == holes
