"""What each setting may be: a function takes what was given, and returns it as it is used or says what is allowed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from market.bucket_url import parse_bucket_url
from market.errors import MarketError
from market.intervals import INTERVAL_MS, meant_interval
from market.sources.ccxt_names import SCHEME, exchange_id, is_ccxt
from market.symbol_names import spelled

OFF = "off"
_WORD = r"[^\W_]+"
_NAME = rf"{_WORD}(/{_WORD}(:{_WORD}(-{_WORD})*)?|_\d{{6}})?"  # BTCUSDT, BTCUSDT_260327, ccxt's BTC/USDT:USDT
_NAMES = re.compile(rf"{_NAME}(,{_NAME})*")
_RANKED = re.compile(r"all|top:[1-9]\d*")
_NEARLY_RANKED = re.compile(r"top[-_=]?([1-9]\d*)")
_NO_NAMES = re.compile(r"(^|,)(all|top:[^,]*)(,|$)")  # a rank that is none, or that does not stand alone


def folder(value: Path) -> Path:
    """Take a folder as an absolute path."""
    return value.expanduser().resolve()


def exchange_url(value: str | None) -> str | None:
    """Take the base URL of an exchange, or ``ccxt:<id>``."""
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
    _refuse_credentials(parts, "market data needs")
    return value.rstrip("/")


def archive_url(value: str | None) -> str | None:
    """Take the base URL of a host of archives, or ``off``."""
    if not value or value.lower() == OFF:
        return OFF if value else None
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise ValueError("allowed: off, or an http:// or https:// base URL without a path")
    _refuse_credentials(parts, "archives need")
    return value.rstrip("/")


def selection(value: str) -> str:
    """Take ``all``, ``top:N``, or names of symbols separated by commas."""
    compact = "".join(value.split())
    if _RANKED.fullmatch(compact.lower()):
        return compact.lower()
    written = ",".join(spelled(name, unified="/" in name) for name in compact.split(","))
    if written == compact and _NAMES.fullmatch(compact):
        return compact
    meant = _meant_rank(compact) or (written if _NAMES.fullmatch(written) else None)
    hint = f"did you mean {meant}? " if meant and not _NO_NAMES.search(compact.lower()) else ""
    raise ValueError(f"{hint}allowed: all, top:N with N >= 1, or names in capitals separated by commas")


def _meant_rank(text: str) -> str | None:
    found = _NEARLY_RANKED.fullmatch(text.lower())
    return f"top:{found[1]}" if found else None


def intervals(value: Any) -> tuple[str, ...] | None:
    """Take intervals separated by commas, each once."""
    if value is None:
        return None
    names = tuple(value.replace(" ", "").split(",")) if isinstance(value, str) else tuple(value)
    for name in names:
        if name not in INTERVAL_MS:
            meant = meant_interval(name)
            hint = f"did you mean {meant}? " if meant else ""
            raise ValueError(f"{name!r} is no interval; {hint}allowed: {' '.join(INTERVAL_MS)}")
    if len(set(names)) != len(names):
        raise ValueError("each interval once")
    return names


def files(value: str | None) -> str | None:
    """Take the names of files that are there, separated by ``:``."""
    for name in filter(None, (value or "").split(os.pathsep)):
        if not Path(name).is_file():
            raise ValueError(f"there is no file {name}")
    return value or None


def redis_url(value: SecretStr | None) -> SecretStr | None:
    """Take the URL of a Redis or Valkey."""
    return _of_scheme(value, ("redis", "rediss", "unix"))


def database_url(value: SecretStr | None) -> SecretStr | None:
    """Take the URL of a PostgreSQL database."""
    return _of_scheme(value, ("postgresql", "postgresql+psycopg2"))


def bucket_url(value: str | None) -> str | None:
    """Take ``s3://bucket/prefix``."""
    if not value:
        return None
    try:
        parse_bucket_url(value)
    except MarketError as error:
        raise ValueError(f"allowed: s3://bucket/prefix; {error.what}") from None
    return value.rstrip("/")


def _known_to_ccxt(url: str) -> str:
    try:
        return exchange_id(url)
    except MarketError as error:
        raise ValueError(f"{error.what}; {error.remedy}") from None


def _refuse_credentials(parts: SplitResult, what_needs: str) -> None:
    if "@" in parts.netloc:
        raise ValueError(f"it must hold no user name and no password: {what_needs} none")


def _of_scheme(value: SecretStr | None, allowed: tuple[str, ...]) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    if urlsplit(value.get_secret_value()).scheme not in allowed:
        raise ValueError(f"allowed: a URL that starts with {' or '.join(f'{s}://' for s in allowed)}")
    return value
