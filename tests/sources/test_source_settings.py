"""Which source the settings name, and that a home keeps to one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from assets.errors import SettingsError, SourceMismatchError
from assets.exchange_process import exchange_for
from assets.exchange_questions import chosen_symbols, exchange_time
from assets.request_priority import request_priority
from assets.settings import load_settings
from assets.source import claim_source, require_source, source_name
from market.client import ExchangeClient
from market.client_errors import UnreachableError
from market.exchange.launch import RunningExchange
from market.sources.ccxt_source import CcxtSource
from market.sources.opening import open_source

NOW = 1_735_700_000_000
HOUR = 3_600_000


def test_a_ccxt_exchange_and_unified_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLINECAST_EXCHANGE_URL", "ccxt:kraken")
    monkeypatch.setenv("KLINECAST_SYMBOLS", "BTC/USD, ETH/USDT:USDT ,ADA/USDT:USDT-251226")
    settings = load_settings()
    assert settings.exchange_url == "ccxt:kraken"
    assert settings.symbols == "BTC/USD,ETH/USDT:USDT,ADA/USDT:USDT-251226"
    assert settings.market == "spot"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("EXCHANGE_URL", "ccxt:krakn", "did you mean ccxt:kraken"),
        ("EXCHANGE_URL", "ccxt:", "ccxt has no exchange ''"),
        ("EXCHANGE_URL", "ccxt:base", "ccxt has no exchange 'base'"),
        ("EXCHANGE_URL", "kraken", "ccxt:kraken"),
        ("SYMBOLS", "BTC/USDT", "no ccxt:<id>"),
        ("SYMBOLS", "BTC/", "names in capitals"),
        ("MARKET", "coin_m", "usd_m"),
    ],
)
def test_what_names_no_source_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"KLINECAST_{name}", value)
    with pytest.raises(SettingsError) as failure:
        load_settings()
    assert said in str(failure.value)


def test_one_function_opens_every_source() -> None:
    assert isinstance(open_source("ccxt:kraken", priority="backfill"), CcxtSource)
    spot = open_source("https://api.example.com", priority="backfill")
    assert isinstance(spot, ExchangeClient)
    assert (spot.priority, spot.max_klines) == ("backfill", 1_000)
    assert open_source("https://fapi.example.com", market="usd_m").max_klines == 1_500


def test_spot_futures_and_ccxt_bars_never_share_a_home(served: RunningExchange, tmp_path: Path) -> None:
    simulated = claim_source(tmp_path / "a", served.url)
    assert claim_source(tmp_path / "a", served.url, "spot") == simulated
    with pytest.raises(SourceMismatchError, match="USD-M futures"):
        claim_source(tmp_path / "a", served.url, "usd_m")
    assert claim_source(tmp_path / "b", served.url, "usd_m") == f"{simulated}, USD-M futures"
    with pytest.raises(SourceMismatchError, match="KLINECAST_MARKET"):
        claim_source(tmp_path / "b", served.url)
    assert claim_source(tmp_path / "c", "ccxt:kraken") == "ccxt:kraken"
    assert source_name("ccxt:kraken", "usd_m") != source_name("ccxt:kraken")
    with pytest.raises(SourceMismatchError, match="ccxt:kraken"):
        claim_source(tmp_path / "c", served.url)


def test_another_market_is_refused_before_anything_is_asked(
    served: RunningExchange, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_source(home, "https://api.example.com")
    monkeypatch.setenv("KLINECAST_HOME", str(home))
    for url in ("https://fapi.example.com", served.url, "ccxt:kraken", None):
        with pytest.raises(SourceMismatchError, match=r"holds bars of https://api\.example\.com"):  # noqa: SIM117
            with exchange_for(load_settings(exchange_url=url)):
                pytest.fail("it would be asked now")
    assert served.info()["served"]["total"]["requests"] == 0
    assert [path.name for path in home.iterdir()] == ["source.json"], "nor was an exchange started"
    with exchange_for(load_settings(exchange_url="https://api.example.com")) as url:
        assert url == "https://api.example.com"
    with pytest.raises(SourceMismatchError, match="USD-M futures"):
        require_source(load_settings(exchange_url="https://api.example.com", market="usd_m"))


def test_the_platform_asks_the_market_of_the_settings(served: RunningExchange) -> None:
    served.reset_counters()
    assert exchange_time(served.url, "usd_m") == NOW
    assert chosen_symbols(served.url, "top:1", "usd_m")["symbol"].to_list() == ["BTCUSDT"]
    routes = served.info()["served"]["routes"]
    assert all(path.startswith("/fapi/v1/") for path in routes), routes


def test_the_platform_asks_ccxt_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy answers there, so it ends in ccxt's name and what to do; no request leaves the machine."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(UnreachableError) as failure:
        exchange_time("ccxt:kraken")
    assert failure.value.where == "ccxt:kraken fetch_time"


def test_an_ingest_of_what_is_nearly_up_to_date_is_a_sweep() -> None:
    def spans(*rows: tuple[str, str, int]) -> pl.DataFrame:
        return pl.DataFrame(rows, schema=["symbol", "kline_interval", "last_open_time"], orient="row")

    fresh = spans(("A", "1h", NOW - 2 * HOUR), ("B", "1h", NOW - 900 * HOUR))
    assert request_priority(fresh, ["A", "B"], ["1h"], NOW) == "sweep"
    assert request_priority(fresh, ["A", "B", "C", "D", "E"], ["1h"], NOW) == "backfill"
    stale = spans(("A", "1h", NOW - 1_200 * HOUR), ("B", "1h", NOW - 2 * HOUR), ("B", "5m", NOW))
    assert request_priority(stale, ["A", "B"], ["1h"], NOW) == "sweep", "a delisted one does not change it"
    assert request_priority(stale, ["A"], ["1h"], NOW) == "backfill"
    assert request_priority(stale.head(0), ["A"], ["1h"], NOW) == "backfill"
