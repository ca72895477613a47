"""Exchanges that the tests of a module share."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from market.exchange.launch import RunningExchange, start_exchange

Fetch = Callable[..., tuple[int, Any, dict[str, str]]]


@pytest.fixture(scope="module")
def exchange(request: pytest.FixtureRequest) -> Iterator[RunningExchange]:
    """A simulated exchange of four symbols whose clock stands still at the module's NOW_MS."""
    with start_exchange(symbols=4, seed=11, now=request.module.NOW_MS, speed=0) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh_limits(request: pytest.FixtureRequest) -> None:
    if "exchange" in request.fixturenames:
        running = request.getfixturevalue("exchange")
        running.clear_faults()
        running.set_limits(weight_per_minute=6000, raw_per_5m=61_000, strikes=5, ban_s=120)
        running.reset_counters()


@pytest.fixture
def fetch(exchange: RunningExchange) -> Fetch:
    """GET a path of the exchange: status, JSON body, headers in lower case."""

    def get(path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        return fetch_json(exchange.url + path, headers)

    return get


def fetch_json(url: str, headers: dict[str, str] | None = None) -> tuple[int, Any, dict[str, str]]:
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            status, body, got = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, body, got = error.code, error.read(), error.headers
    parsed = orjson.loads(body) if body[:1] in b"[{" else body
    return status, parsed, {name.lower(): value for name, value in got.items()}
