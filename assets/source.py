"""One home, one market: bars of two exchanges never meet in a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from assets.errors import SourceMismatchError
from assets.settings import Settings
from assets.state_files import read_json, write_json
from market.loopback import DIRECT
from market.source import MarketName

_FILE = "source.json"
_SIMULATED = "the simulated market"


def claim_source(home: Path, url: str, market: MarketName = "spot") -> str:
    """Bind this home to a market of the exchange behind `url` at its first ingest, and hold it to that.

    Returns
    -------
    str
        What the source of the bars is called.

    Raises
    ------
    SourceMismatchError
        When the home holds bars of another market: BTCUSDT of a simulation and of an exchange must not mix, nor
        those of spot and futures.
    """
    source = source_name(url, market)
    if claimed_source(home) is None:
        write_json(home / _FILE, {"source": source})
    _hold_to(home, source)
    return source


def require_source(settings: Settings) -> None:
    """Refuse settings that lead to another market than this home's, before anything is asked for.

    A host on this machine is asked what it serves, which is no request to an exchange; one that does not answer is
    left to the requests that follow, which say so.

    Raises
    ------
    SourceMismatchError
        As `claim_source`.
    """
    url, market = settings.exchange_url, settings.market
    if url is None:
        _hold_to(settings.home, _simulated(settings.builtin_seed) + _suffix(market))
    elif not on_loopback(url) or builtin_info(url) is not None:
        _hold_to(settings.home, source_name(url, market))


def _hold_to(home: Path, source: str) -> None:
    bound = claimed_source(home)
    if bound is not None and bound != source:
        raise SourceMismatchError(
            f"this home holds bars of {bound}, and {source} is another market",
            where=f"KLINECAST_HOME = {home}",
            remedy="set KLINECAST_HOME to another folder for the other market,"
            " or set KLINECAST_EXCHANGE_URL, KLINECAST_MARKET (and KLINECAST_BUILTIN_SEED) back",
        )


def claimed_source(home: Path) -> str | None:
    """Return the market whose bars this home holds, or None before the first ingest."""
    record = read_json(home / _FILE)
    return str(record["source"]) if record and "source" in record else None


def is_simulated(source: str) -> bool:
    """Tell whether a market, by its name, is one that the built-in exchange makes up."""
    return source.startswith(_SIMULATED)


def source_name(url: str, market: MarketName = "spot") -> str:
    """Name a market: its host or its exchange in ccxt, or what a built-in exchange says that it serves."""
    return _exchange_name(url) + _suffix(market)


def _suffix(market: MarketName) -> str:
    return "" if market == "spot" else ", USD-M futures"


def _simulated(seed: object) -> str:
    return f"{_SIMULATED} with seed {seed}"


def _exchange_name(url: str) -> str:
    info = builtin_info(url) or {}
    if info.get("kind") == "replay":
        return f"a replay of {info.get('folder', 'recorded bars')}"
    if info.get("kind") == "simulated":
        return _simulated(info.get("seed"))
    return url


def builtin_info(url: str) -> dict[str, Any] | None:
    """Ask a loopback host what it serves; None where it is no built-in exchange or does not answer."""
    if not on_loopback(url):
        return None
    try:
        with DIRECT.open(f"{url}/klinecast/v1/info", timeout=5) as answer:
            found = json.load(answer)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def on_loopback(url: str) -> bool:
    """Tell whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
