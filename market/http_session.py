"""What every client of ours has in common: a checked base URL, and one session with connection reuse."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import aiohttp

from market.errors import MarketError

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def open_session(
    base_url: str,
    *,
    concurrency: int,
    timeout: aiohttp.ClientTimeout,
    accept: str,
    connector: aiohttp.TCPConnector | None = None,
) -> aiohttp.ClientSession:
    """Open a session to one host, with at most `concurrency` connections that stay open between requests."""
    loopback = (urlsplit(base_url).hostname or "") in _LOOPBACK
    return aiohttp.ClientSession(
        connector=connector or aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=30.0),
        timeout=timeout,
        headers={"User-Agent": "klinecast", "Accept": accept},
        # Where nothing leaves the machine, compressing costs more than sending, and a proxy is no help.
        skip_auto_headers=("Accept-Encoding",) if loopback else (),
        trust_env=not loopback,
    )


def checked_base_url(base_url: str, what: str = "an exchange") -> tuple[str, str]:
    """Return the URL without a trailing slash, and the host with its port.

    Raises
    ------
    MarketError
        If it is more or less than scheme, host and port; the message says that it is no base URL of `what`.
    """
    url = base_url.rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        parts, port = urlsplit(""), None
    if not parts.hostname or port is None or parts.path or parts.query or parts.fragment or parts.username:
        raise MarketError(
            f"{base_url!r} is not the base URL of {what}",
            where=f"{what.split()[-1]} URL",
            remedy="give scheme, host and port only, e.g. https://data-api.binance.vision",
        )
    return url, f"{parts.hostname}:{port}"
