"""Which exchange this home talks to: the configured one, a built-in one that runs already, or one for this run."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from assets.clock import latest_known_ms
from assets.errors import AssetError
from assets.settings import Settings
from assets.source import builtin_info
from assets.state_files import read_json, write_json
from market.exchange.launch import start_exchange

_FILE = "exchange.json"


@contextmanager
def exchange_for(settings: Settings) -> Iterator[str]:
    """Give the base URL of the exchange to use; a built-in one started here ends with the context."""
    running = settings.exchange_url or running_builtin(settings)
    if running:
        yield running
        return
    with start_builtin(settings) as url:
        yield url


@contextmanager
def exchange_started_beside(settings: Settings) -> Iterator[Callable[[], None]]:
    """Start the exchange of these settings while the caller does something else, and keep it to the end.

    Gives a function that waits until it has been started. Where that fails nothing is raised: whoever needs the
    exchange tries by `exchange_for`, and says what is wrong.
    """
    with ExitStack() as stack, ThreadPoolExecutor(1) as beside:
        starting = beside.submit(stack.enter_context, exchange_for(settings))

        def wait() -> None:
            futures.wait([starting])

        try:
            yield wait
        finally:
            wait()


@contextmanager
def start_builtin(settings: Settings, *, port: int = 0) -> Iterator[str]:
    """Start the built-in exchange of these settings and make it known to the other processes of this home."""
    options: dict[str, Any] = {
        "port": port,
        "symbols": settings.builtin_symbols,
        "seed": settings.builtin_seed,
        "now": latest_known_ms(
            settings.home
        ),  # never before what this home has seen: the demo steps the clock
    }
    with start_exchange(**options) as exchange:
        record = settings.home / _FILE
        write_json(record, {"url": exchange.url, "pid": os.getpid(), **_identity(settings)})
        try:
            yield exchange.url
        finally:
            record.unlink(missing_ok=True)


def running_builtin(settings: Settings) -> str | None:
    """Return the URL of a built-in exchange that another process of this home keeps running, if it answers."""
    record = read_json(settings.home / _FILE)
    if not record or any(record.get(name) != value for name, value in _identity(settings).items()):
        return None
    return str(record["url"]) if builtin_info(str(record["url"])) else None


def _identity(settings: Settings) -> dict[str, int]:
    return {"symbols": settings.builtin_symbols, "seed": settings.builtin_seed}


def run_exchange(arguments: list[str]) -> int:
    """Run the built-in exchange in this process until it is stopped; returns its exit code."""
    from market.exchange.__main__ import main

    return main(arguments) or 0


def step_clock(url: str, now_ms: int) -> None:
    """Step the clock of a built-in exchange ahead.

    Raises
    ------
    AssetError
        When the host at `url` is no built-in exchange.
    """
    body = json.dumps({"now_ms": now_ms}).encode()
    request = urllib.request.Request(  # noqa: S310
        f"{url}/klinecast/v1/clock", body, {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310
            return
    except (OSError, ValueError) as error:
        raise AssetError(
            f"the exchange's clock could not be stepped: {error}",
            where=url,
            remedy="unset KLINECAST_EXCHANGE_URL: only the built-in exchange has a clock that can be stepped",
        ) from None
