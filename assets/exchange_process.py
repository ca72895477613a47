"""Which exchange this home talks to: the configured one, or a built-in one that all its processes share."""

from __future__ import annotations

import fcntl
import json
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from assets.clock import latest_known_ms
from assets.errors import AssetError
from assets.settings import Settings
from assets.source import builtin_info, require_source
from assets.state_files import read_json, require_home, write_json
from market.exchange.launch import start_exchange
from market.loopback import DIRECT

_FILE = "exchange.json"
_USERS = "exchange.users"
"""The exchange lives as long as any process holds a shared lock on this file."""

_STARTING = "exchange.starting"
"""Held by who looks for a running exchange and starts one: two that come at once share one."""


@contextmanager
def exchange_for(settings: Settings) -> Iterator[str]:
    """Give the base URL of the exchange to use; the built-in one is there to the end of the context at least.

    Raises
    ------
    SourceMismatchError
        If this home holds bars of another market: nothing is started or asked then.
    """
    require_source(settings)
    if settings.exchange_url:
        yield settings.exchange_url
        return
    with shared_builtin(settings) as url:
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
def shared_builtin(settings: Settings) -> Iterator[str]:
    """Give the base URL of this home's built-in exchange: whoever needs it first starts it, and it ends with the last.

    It belongs to nobody: each process that uses it holds a shared lock on a file, and the exchange ends itself when no
    lock is left. So no process is struck by the end of another one, be it by ``kill -9``.
    """
    home = require_home(settings.home)
    with _locked(home / _USERS, fcntl.LOCK_SH):
        with _locked(home / _STARTING, fcntl.LOCK_EX):
            url = running_builtin(settings) or _start(settings)
        yield url


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, kind)
        yield


def _start(settings: Settings) -> str:
    """Start the built-in exchange of these settings and make it known to the other processes of this home."""
    exchange = start_exchange(
        symbols=settings.builtin_symbols,
        seed=settings.builtin_seed,
        now=latest_known_ms(settings.home),  # never before what this home has seen: the demo steps the clock
        while_locked=settings.home / _USERS,
    )
    try:
        write_json(settings.home / _FILE, {"url": exchange.url, "pid": exchange.pid, **_identity(settings)})
    except BaseException:
        exchange.stop()
        raise
    exchange.leave()
    return exchange.url


def running_builtin(settings: Settings) -> str | None:
    """Return the URL of the built-in exchange that this home has started, if it answers."""
    record = read_json(settings.home / _FILE)
    if not record or any(record.get(name) != value for name, value in _identity(settings).items()):
        return None
    info = builtin_info(str(record["url"])) or {}
    return str(record["url"]) if info.get("pid") == record.get("pid") else None


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
        with DIRECT.open(request, timeout=10):
            return
    except (OSError, ValueError) as error:
        raise AssetError(
            f"the exchange's clock could not be stepped: {error}",
            where=url,
            remedy="unset KLINECAST_EXCHANGE_URL: only the built-in exchange has a clock that can be stepped",
        ) from None
