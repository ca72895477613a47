"""The one settings object: every value comes from the environment (prefix ``KLINECAST_``) or a ``.env`` file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from assets import settings_values as values
from assets.settings_errors import explained, refuse_unknown_names
from assets.settings_values import OFF as OFF
from market.intervals import is_multiple
from market.source import MarketName
from market.sources.ccxt_names import is_ccxt
from market.symbol_names import spelled

PREFIX = "KLINECAST_"


class Settings(BaseSettings):
    """What klinecast can be told from outside.

    Each field is read from ``KLINECAST_<NAME IN CAPITALS>``; the environment wins over ``.env`` in the working
    folder. A value that cannot be used is refused when the settings are loaded.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", env_ignore_empty=True, frozen=True
    )

    home: Annotated[Path, AfterValidator(values.folder)] = Field(
        default=Path("~/.klinecast"),
        description="Folder of all state: bars, features, models, Dagster's records.",
    )
    exchange_url: Annotated[str | None, AfterValidator(values.exchange_url)] = Field(
        default=None,
        description="Base URL of a Binance-protocol host, or `ccxt:<id>` for another exchange (`ccxt:kraken`);"
        " see sources.md. Unset: the built-in exchange on loopback.",
    )
    market: MarketName = Field(
        default="spot",
        description="`spot`, or `usd_m` for USD-M perpetual futures (Binance's host is `https://fapi.binance.com`).",
    )
    archive_url: Annotated[str | None, AfterValidator(values.archive_url)] = Field(
        default=None,
        description="Base URL of the host of bulk archives, or `off`; see archives.md. Unset: the built-in exchange's"
        " own, and `https://data.binance.vision` for Binance's hosts.",
    )
    symbols: Annotated[str, AfterValidator(values.selection)] = Field(
        default="top:20",
        description="`top:N` (by 24h quote volume, USDT quote), `all`, or a comma-separated list such as"
        " `BTCUSDT,ETHUSDT` (through ccxt by unified names: `BTC/USDT,ETH/USDT`).",
    )
    intervals: Annotated[tuple[str, ...], NoDecode, BeforeValidator(values.intervals)] = Field(
        default=("1m", "5m", "15m"),
        description="Comma-separated intervals to ingest; case matters (`1m` is a minute).",
    )
    model_interval: str | None = Field(
        default=None,
        description="Interval that the forecaster reads and predicts, one of `KLINECAST_INTERVALS`."
        " Unset: `5m` where it is ingested, else the first one.",
    )
    joined_intervals: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(values.intervals)] = Field(
        default=None,
        description="Longer intervals whose features the forecaster reads beside those of its own one, comma-separated:"
        " ingested, and whole multiples of it; see forecaster.md. Unset: none.",
    )
    history_bars: int = Field(
        default=16_000,
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
    feature_files: Annotated[str | None, AfterValidator(values.files)] = Field(
        default=None,
        description="Python files with features of your own, separated by `:` (environment only); see own-features.md.",
    )
    redis_url: Annotated[SecretStr | None, AfterValidator(values.redis_url)] = Field(
        default=None,
        description="Redis or Valkey for the second cache level. Unset: the in-process level alone.",
    )
    database_url: Annotated[SecretStr | None, AfterValidator(values.database_url)] = Field(
        default=None,
        description="PostgreSQL for the hot bars and Dagster's records. Unset: SQLite files under `KLINECAST_HOME`.",
    )
    objects_url: Annotated[str | None, AfterValidator(values.bucket_url)] = Field(
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
            plain = ",".join(spelled(name) for name in self.symbols.split(","))
            raise ValueError(
                f"KLINECAST_SYMBOLS is {self.symbols!r}: names with a slash are ccxt's, and KLINECAST_EXCHANGE_URL is"
                f" no ccxt:<id>; did you mean {plain}?"
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
    refuse_unknown_names(PREFIX, Settings.model_fields)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise explained(error, PREFIX) from None


@lru_cache(maxsize=1)
def current_settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()
