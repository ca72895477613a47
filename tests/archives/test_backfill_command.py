"""`klinecast backfill`, from the command line to the store, and where archives are looked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from assets.archives import archive_host
from assets.errors import SettingsError
from assets.settings import load_settings
from market.exchange.launch import RunningExchange
from market.store import KlineStore
from orchestration.cli.backfill import run_backfill

from .conftest import JUNE, MAY


def klinecast(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("KLINECAST_")}
    variables |= {f"KLINECAST_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "orchestration.cli", *arguments]
    return subprocess.run(
        command, env={**variables, "KLINECAST_HOME": str(home)}, capture_output=True, text=True, check=False
    )


def test_a_span_of_history_from_archives(served: RunningExchange, home: Path) -> None:
    done = klinecast(
        home,
        *("backfill", "--start", "2025-05-01", "--end", "2025-06-01", "--symbols", "BTCUSDT"),
        *("--intervals", "15m"),
        exchange_url=served.url,
        symbols="BTCUSDT,ETHUSDT",
    )
    assert done.returncode == 0, done.stderr
    assert "from 1 archive file)" in done.stderr
    assert done.stderr.startswith("backfill: state in") and "backfill done" in done.stderr
    assert "ingest" not in done.stderr
    routes = served.info()["served"]["routes"]
    assert routes["/data/"]["requests"] == 2
    assert routes["/api/v3/time"]["requests"] == 2, "before, and again after files, which may take hours"
    assert "/api/v3/ticker/24hr" not in routes, "symbols that are named need no universe"
    with KlineStore.open(home) as store:
        (held,) = store.spans().rows(named=True)
        (file,) = store.archives()
    assert (held["symbol"], held["kline_interval"]) == ("BTCUSDT", "15m")
    assert MAY <= held["first_open_time"] < held["last_open_time"] < JUNE
    assert file.rows == held["rows"] > 2_900


@pytest.mark.parametrize(
    ("span", "says"),
    [
        (("tuesday", None), "'tuesday' is no time"),
        (("2025-06-01", "2025-05-01"), "there is no time between 2025-06-01 and 2025-05-01"),
    ],
)
def test_spans_that_cannot_be(span: tuple[str, str | None], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        run_backfill(*span, symbols=None, intervals=None)
    assert says in str(caught.value)


def test_where_archives_are_looked_for(
    served: RunningExchange, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLINECAST_HOME", str(home))
    settings = load_settings()
    assert archive_host(settings, served.url) == served.url
    for url in ("https://data-api.binance.vision", "https://api.binance.com", "https://fapi.binance.com"):
        assert archive_host(settings, url) == "https://data.binance.vision"
    for url in ("https://api.example.com", "https://notbinance.com", "ccxt:kraken", "http://127.0.0.1:9"):
        assert archive_host(settings, url) is None
    monkeypatch.setenv("KLINECAST_ARCHIVE_URL", "Off")
    assert archive_host(load_settings(), served.url) is None
    monkeypatch.setenv("KLINECAST_ARCHIVE_URL", "http://mirror.example.com/")
    assert archive_host(load_settings(), served.url) == "http://mirror.example.com"
    assert archive_host(load_settings(), "ccxt:kraken") is None


@pytest.mark.parametrize("value", ["mirror", "ftp://host", "https://host/data", "https://me:secret@host"])
def test_archive_addresses_that_cannot_be(home: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("KLINECAST_HOME", str(home))
    monkeypatch.setenv("KLINECAST_ARCHIVE_URL", value)
    with pytest.raises(SettingsError, match="KLINECAST_ARCHIVE_URL"):
        load_settings()
