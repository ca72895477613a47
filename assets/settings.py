"""The one settings object: every value comes from the environment (prefix ``KLINECAST_``) or a ``.env`` file."""

from __future__ import annotations

import difflib
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from assets.errors import SettingsError
from market.bucket_url import parse_bucket_url
from market.errors import MarketError
from market.intervals import INTERVAL_MS, is_multiple
from market.source import MarketName
from market.sources.ccxt_names import SCHEME, exchange_id, is_ccxt

PREFIX = "KLINECAST_"
OFF = "off"
_NAME = (
    r"[A-Z0-9]+(/[A-Z0-9]+(:[A-Z0-9]+(-[A-Z0-9]+)*)?)?"  # BTCUSDT, or unified as ccxt has it: BTC/USDT:USDT
)
_SELECTION = re.compile(rf"all|top:[1-9]\d*|{_NAME}(,{_NAME})*")
_DATABASE_SCHEMES = ("postgresql", "postgresql+psycopg2")
_REDIS_SCHEMES = ("redis", "rediss", "unix")


class Settings(BaseSettings):
    """What klinecast can be told from outside.

    Each field is read from ``KLINECAST_<NAME IN CAPITALS>``; the environment wins over ``.env`` in the working
    folder. A value that cannot be used is refused when the settings are loaded.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", env_ignore_empty=True, frozen=True
    )

    home: Path = Field(
        default=Path("~/.klinecast"),
        description="Folder of all state: bars, features, models, Dagster's records.",
    )
    exchange_url: str | None = Field(
        default=None,
        description="Base URL of a Binance-protocol host, or `ccxt:<id>` for another exchange (`ccxt:kraken`);"
        " see sources.md. Unset: the built-in exchange on loopback.",
    )
    market: MarketName = Field(
        default="spot",
        description="`spot`, or `usd_m` for USD-M perpetual futures (Binance's host is `https://fapi.binance.com`).",
    )
    archive_url: str | None = Field(
        default=None,
        description="Base URL of the host of bulk archives, or `off`; see archives.md. Unset: the built-in exchange's"
        " own, and `https://data.binance.vision` for Binance's hosts.",
    )
    symbols: str = Field(
        default="top:20",
        description="`top:N` (by 24h quote volume, USDT quote), `all`, or a comma-separated list such as"
        " `BTCUSDT,ETHUSDT` (through ccxt by unified names: `BTC/USDT,ETH/USDT`).",
    )
    intervals: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("1m", "5m", "15m"),
        description="Comma-separated intervals to ingest; case matters (`1m` is a minute).",
    )
    model_interval: str | None = Field(
        default=None,
        description="Interval that the forecaster reads and predicts, one of `KLINECAST_INTERVALS`."
        " Unset: `5m` where it is ingested, else the first one.",
    )
    joined_intervals: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None,
        description="Longer intervals whose features the forecaster reads beside those of its own one, comma-separated:"
        " ingested, and whole multiples of it; see forecaster.md. Unset: none.",
    )
    history_bars: int = Field(
        default=8_000,
        ge=500,
        le=5_000_000,
        description="Closed bars of history to hold per symbol and interval.",
    )
    derive: bool = Field(
        default=True,
        description="Build the newest bars of longer intervals from stored 1m bars where that is exact, and confirm"
        " them once a day, instead of asking for each; see ingestion.md.",
    )
    builtin_symbols: int = Field(
        default=20, ge=1, le=5_000, description="Symbols that the built-in exchange lists."
    )
    builtin_seed: int = Field(
        default=7, ge=0, description="Seed of the built-in exchange's simulated market."
    )
    feature_files: str | None = Field(
        default=None,
        description="Python files with features of your own, separated by `:` (environment only); see own-features.md.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="Redis or Valkey for the second cache level. Unset: the in-process level alone.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL for the hot bars and Dagster's records. Unset: SQLite files under `KLINECAST_HOME`.",
    )
    objects_url: str | None = Field(
        default=None,
        description="`s3://bucket/prefix` for the Parquet files of bars; endpoint and keys come from the `AWS_*`"
        " variables, see store.md. Unset: `klines/` under `KLINECAST_HOME`.",
    )
    retrain_after_days: int = Field(
        default=7,
        ge=1,
        description="Age of the newest model, by the exchange's clock, at which the sensor `retrain_on_age` asks for a"
        " retraining; see models.md.",
    )
    retrain_warm: bool = Field(
        default=False,
        description="Whether retrainings that a schedule or a sensor asks for begin with the champion's weights.",
    )
    drift_days: int = Field(
        default=3,
        ge=1,
        description="Newest days that the sensor `retrain_on_drift` holds against the champion's training span.",
    )
    ui_port: int = Field(default=3000, ge=1024, le=65_535, description="Loopback port of the Dagster UI.")

    @field_validator("home")
    @classmethod
    def _home(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("exchange_url")
    @classmethod
    def _exchange_url(cls, value: str | None) -> str | None:
        if not value:
            return None
        if is_ccxt(value):
            return f"{SCHEME}{_known_to_ccxt(value)}"
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(
                "allowed: an http:// or https:// base URL such as http://127.0.0.1:8790, or an exchange of ccxt"
                " such as ccxt:kraken"
            )
        if "@" in parts.netloc:
            raise ValueError("it must hold no user name and no password: market data needs none")
        return value.rstrip("/")

    @field_validator("archive_url")
    @classmethod
    def _archive_url(cls, value: str | None) -> str | None:
        if not value or value.lower() == OFF:
            return OFF if value else None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
            raise ValueError("allowed: off, or an http:// or https:// base URL without a path")
        if "@" in parts.netloc:
            raise ValueError("it must hold no user name and no password: archives need none")
        return value.rstrip("/")

    @field_validator("symbols")
    @classmethod
    def _symbols(cls, value: str) -> str:
        compact = "".join(value.split())
        if not _SELECTION.fullmatch(compact):
            raise ValueError("allowed: all, top:N with N >= 1, or names in capitals separated by commas")
        return compact

    @field_validator("intervals", "joined_intervals", mode="before")
    @classmethod
    def _intervals(cls, value: Any) -> tuple[str, ...] | None:
        if value is None:
            return None
        names = tuple(value.replace(" ", "").split(",")) if isinstance(value, str) else tuple(value)
        for name in names:
            if name not in INTERVAL_MS:
                raise ValueError(f"{name!r} is no interval; allowed: {' '.join(INTERVAL_MS)}")
        if len(set(names)) != len(names):
            raise ValueError("each interval once")
        return names

    @field_validator("feature_files")
    @classmethod
    def _feature_files(cls, value: str | None) -> str | None:
        for name in filter(None, (value or "").split(os.pathsep)):
            if not Path(name).is_file():
                raise ValueError(f"there is no file {name}")
        return value or None

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        return _checked_scheme(value, _REDIS_SCHEMES)

    @field_validator("database_url")
    @classmethod
    def _database_url(cls, value: SecretStr | None) -> SecretStr | None:
        return _checked_scheme(value, _DATABASE_SCHEMES)

    @field_validator("objects_url")
    @classmethod
    def _objects_url(cls, value: str | None) -> str | None:
        if not value:
            return None
        try:
            parse_bucket_url(value)
        except MarketError as error:
            raise ValueError(f"allowed: s3://bucket/prefix; {error.what}") from None
        return value.rstrip("/")

    @model_validator(mode="after")
    def _model_interval_is_ingested(self) -> Settings:
        if self.model_interval is not None and self.model_interval not in self.intervals:
            raise ValueError(
                f"KLINECAST_MODEL_INTERVAL is {self.model_interval!r}, which KLINECAST_INTERVALS does not hold;"
                f" allowed: {' '.join(self.intervals)}"
            )
        return self

    @model_validator(mode="after")
    def _joined_intervals_fit(self) -> Settings:
        own = self.forecast_interval
        for name in self.joined_intervals or ():
            if name not in self.intervals or not is_multiple(name, own):
                allowed = [interval for interval in self.intervals if is_multiple(interval, own)]
                raise ValueError(
                    f"KLINECAST_JOINED_INTERVALS names {name!r}, which is not ingested, or no whole multiple of the"
                    f" model's own interval {own!r}; allowed: {' '.join(allowed) or 'none of KLINECAST_INTERVALS'}"
                )
        return self

    @model_validator(mode="after")
    def _symbols_are_the_source_s(self) -> Settings:
        if "/" in self.symbols and not is_ccxt(self.exchange_url or ""):
            raise ValueError(
                f"KLINECAST_SYMBOLS is {self.symbols!r}: names with a slash are ccxt's, and KLINECAST_EXCHANGE_URL is"
                " no ccxt:<id>; allowed: names such as BTCUSDT"
            )
        return self

    @property
    def forecast_interval(self) -> str:
        """Interval that the forecaster reads and predicts."""
        if self.model_interval is not None:
            return self.model_interval
        return "5m" if "5m" in self.intervals else self.intervals[0]

    @property
    def forecast_intervals(self) -> tuple[str, ...]:
        """Intervals whose features the forecaster reads, its own first."""
        return (self.forecast_interval, *(self.joined_intervals or ()))

    @property
    def database(self) -> str | None:
        """The database URL in the clear, for whoever connects; never for a log."""
        return self.database_url.get_secret_value() if self.database_url else None

    @property
    def redis(self) -> str | None:
        """The Redis URL in the clear, for whoever connects; never for a log."""
        return self.redis_url.get_secret_value() if self.redis_url else None


def _known_to_ccxt(url: str) -> str:
    try:
        return exchange_id(url)
    except MarketError as error:
        raise ValueError(f"{error.what}; {error.remedy}") from None


def _checked_scheme(value: SecretStr | None, allowed: tuple[str, ...]) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    if urlsplit(value.get_secret_value()).scheme not in allowed:
        raise ValueError(f"allowed: a URL that starts with {' or '.join(f'{s}://' for s in allowed)}")
    return value


def load_settings(**overrides: Any) -> Settings:
    """Read and check the settings.

    Parameters
    ----------
    **overrides
        Values by field name that win over the environment.

    Raises
    ------
    SettingsError
        With the variable's name, what was given and what is allowed; also for an unknown ``KLINECAST_`` name.
    """
    _refuse_unknown_names()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise _explained(error) from None


@lru_cache(maxsize=1)
def current_settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()


# Read by the built-in exchange itself, which needs no other setting.
_OTHER_NAMES = {"EXCHANGE_TOKEN"}


def _refuse_unknown_names() -> None:
    known = {name.upper() for name in Settings.model_fields} | _OTHER_NAMES
    for variable in (*os.environ, *dotenv_values(".env")):
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else "see the table in docs/settings.md"
            raise SettingsError(
                f"{variable} is no setting of klinecast",
                where="the environment or .env",
                remedy=f"unset it; {hint}",
            )


def _explained(error: ValidationError) -> SettingsError:
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    message = first["msg"].removeprefix("Value error, ")
    if not field:
        return SettingsError(
            message, where="the settings", remedy="change one of the two; see docs/settings.md"
        )
    secret = field in ("redis_url", "database_url") or "@" in str(first["input"])
    given = "(not shown, it may hold a secret)" if secret else repr(first["input"])
    return SettingsError(
        f"{PREFIX}{field.upper()} cannot be used: {message}",
        where=f"{PREFIX}{field.upper()} = {given}, from the environment or .env",
        remedy="set it to an allowed value; see docs/settings.md",
    )
