"""Settings: read from the environment, refused with a name, what was given, and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.errors import SettingsError
from assets.settings import load_settings


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("KLINECAST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_need_no_server_and_no_network() -> None:
    settings = load_settings()
    assert settings.exchange_url is None
    assert settings.database is None
    assert settings.redis is None
    assert settings.home == Path("~/.klinecast").expanduser()
    assert settings.forecast_interval == "5m"


def test_environment_wins_over_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KLINECAST_SYMBOLS=top:3\nKLINECAST_INTERVALS=1h\n")
    monkeypatch.setenv("KLINECAST_SYMBOLS", "BTCUSDT, ETHUSDT")
    settings = load_settings()
    assert settings.symbols == "BTCUSDT,ETHUSDT"
    assert settings.intervals == ("1h",)
    assert settings.forecast_interval == "1h"


@pytest.mark.parametrize("value", ["TOP:3", "All", "币安人生USDT", "BTCUSDT_260327,ETHUSDT"])
def test_every_way_to_choose_symbols(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("KLINECAST_SYMBOLS", value)
    assert load_settings().symbols == (value.lower() if value in ("TOP:3", "All") else value)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("KLINECAST_INTERVALS", "1m,7m", "1m"),
        ("KLINECAST_INTERVALS", "1M", "1m"),
        ("KLINECAST_SYMBOLS", "btcusdt", "did you mean BTCUSDT? allowed: all, top:N"),
        ("KLINECAST_SYMBOLS", "BTCUSDT,eth/usdt", "did you mean BTCUSDT,ETH/USDT?"),
        ("KLINECAST_SYMBOLS", "ETH/USDT", "did you mean ETHUSDT?"),
        ("KLINECAST_SYMBOLS", "BTC_USDT", "did you mean BTCUSDT?"),
        ("KLINECAST_INTERVALS", "1H", "did you mean 1h?"),
        ("KLINECAST_INTERVALS", "5m,60m", "did you mean 1h?"),
        ("KLINECAST_SYMBOLS", "top:0", "cannot be used: allowed: all, top:N with N >= 1"),
        ("KLINECAST_SYMBOLS", "TOP:x", "cannot be used: allowed: all, top:N"),
        ("KLINECAST_SYMBOLS", "BTCUSDT,top:5", "cannot be used: allowed: all, top:N"),
        ("KLINECAST_SYMBOLS", "top5", "did you mean top:5? allowed"),
        ("KLINECAST_EXCHANGE_URL", "api.example.com", "http://"),
        ("KLINECAST_HISTORY_BARS", "12", "500"),
        ("KLINECAST_HISTORY_BARS", "many", "integer"),
        ("KLINECAST_REDIS_URL", "http://127.0.0.1", "redis://"),
        ("KLINECAST_DATABASE_URL", "mysql://127.0.0.1", "postgresql://"),
        ("KLINECAST_OBJECTS_URL", "gs://bucket/prefix", "s3://bucket/prefix"),
        ("KLINECAST_UI_PORT", "80", "1024"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    message = str(refused.value)
    assert name in message
    assert allowed in message
    if name not in ("KLINECAST_REDIS_URL", "KLINECAST_DATABASE_URL"):
        assert value.split(",")[-1] in message


def test_a_secret_is_never_in_a_message_or_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLINECAST_DATABASE_URL", "mysql://me:hunter2@127.0.0.1/x")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)
    monkeypatch.setenv("KLINECAST_DATABASE_URL", "postgresql://me:hunter2@127.0.0.1/x")
    settings = load_settings()
    assert "hunter2" not in repr(settings)
    assert settings.database == "postgresql://me:hunter2@127.0.0.1/x"


def test_a_name_that_does_not_exist_is_refused_with_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLINECAST_INTERVAL", "5m")
    with pytest.raises(SettingsError, match="did you mean KLINECAST_INTERVALS"):
        load_settings()


def test_the_model_interval_must_be_ingested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLINECAST_INTERVALS", "15m")
    monkeypatch.setenv("KLINECAST_MODEL_INTERVAL", "1h")
    with pytest.raises(SettingsError, match="KLINECAST_MODEL_INTERVAL"):
        load_settings()


@pytest.mark.parametrize(
    ("ingested", "joined", "told"),
    [
        ("5m,15m", "1h", "'1h'.*not ingested.*allowed: 15m"),
        ("5m,15m", "5m", "no whole multiple"),
        ("3m,5m", "5m", "no whole multiple.*none of KLINECAST_INTERVALS"),
        ("15m,1h,4h", "1h,1h", "each interval once"),
    ],
)
def test_joined_intervals_are_ingested_and_whole_multiples(
    monkeypatch: pytest.MonkeyPatch, ingested: str, joined: str, told: str
) -> None:
    monkeypatch.setenv("KLINECAST_INTERVALS", ingested)
    monkeypatch.setenv("KLINECAST_MODEL_INTERVAL", ingested.split(",")[0])
    monkeypatch.setenv("KLINECAST_JOINED_INTERVALS", joined)
    with pytest.raises(SettingsError, match=told):
        load_settings()


def test_the_forecaster_s_own_interval_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLINECAST_INTERVALS", "3d,1w,1d")
    monkeypatch.setenv("KLINECAST_MODEL_INTERVAL", "1d")
    assert load_settings().forecast_intervals == ("1d",)
    monkeypatch.setenv("KLINECAST_JOINED_INTERVALS", "3d, 1w")
    assert load_settings().forecast_intervals == ("1d", "3d", "1w")
