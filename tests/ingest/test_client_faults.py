"""What the client does when an exchange does not answer as asked: try again, wait, or say what is wrong."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
import pytest
from aiohttp import web

from market import client_errors as errors
from market import transport
from market.client import USD_M, ExchangeClient
from market.errors import MarketError
from market.rate_limit import RequestBudget

T = TypeVar("T")
Serve = Callable[..., str]

GOOD = [[0, "1", "2", "1", "1.5", "9", 59_999, "13", 7, "4", "5", "0"]]
INFO = {"symbols": [{"symbol": s, "baseAsset": s[:3], "quoteAsset": "USDT", "status": "TRADING"} for s in
                    ("BTCUSDT", "BCHUSDT", "ETHUSDT")], "rateLimits": []}  # fmt: skip


def json_answer(value: Any, status: int = 200, **headers: str) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), status=status, content_type="application/json", headers=headers
    )


class Script:
    """Answers klines requests with one step after the other, then with a good page."""

    def __init__(self, *steps: Callable[[web.Request], Awaitable[web.StreamResponse]] | web.Response) -> None:
        self.steps = list(steps)
        self.times: list[float] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/exchangeInfo"):
            return json_answer(INFO)
        self.times.append(time.monotonic())
        step = self.steps.pop(0) if self.steps else json_answer(GOOD)
        return step if isinstance(step, web.Response) else await step(request)


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_BACKOFF_BASE_S", 0.005)


def call(url: str, work: Callable[[ExchangeClient], Awaitable[T]], **options: Any) -> T:
    async def run() -> T:
        async with ExchangeClient(url, **{"attempts": 4, "timeout_s": 5.0} | options) as client:
            return await work(client)

    return asyncio.run(run())


def one_page(client: ExchangeClient) -> Awaitable[Any]:
    return client.klines_page("BTCUSDT", "1m", 0, 60_000)


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def truncated(request: web.Request) -> web.StreamResponse:
    body = orjson.dumps(GOOD)
    response = web.StreamResponse(
        headers={"Content-Length": str(len(body)), "Content-Type": "application/json"}
    )
    await response.prepare(request)
    await response.write(body[:-20])
    assert request.transport is not None
    request.transport.close()
    return response


async def slow(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(1.0)
    return json_answer(GOOD)


@pytest.mark.parametrize("fault", [
    lambda: json_answer({"code": -1000, "msg": "unknown"}, 500),
    lambda: web.Response(status=502, text="<html>bad gateway</html>", content_type="text/html"),
    lambda: web.Response(body=orjson.dumps(GOOD)[:-20], content_type="application/json"),
    lambda: reset,
    lambda: truncated,
])  # fmt: skip
def test_a_passing_fault_is_tried_again(serve: Serve, fault: Callable[[], Any]) -> None:
    script = Script(fault(), fault())
    page = call(serve(script), one_page)
    assert page.frame["close"].to_list() == [1.5]
    assert len(script.times) == 3
    # A kept connection that breaks before a byte has come back is opened anew within one attempt.
    assert page.requests in ((2, 3) if fault() is reset else (3,))
    assert page.weight == 2 * page.requests


def test_a_time_out_is_tried_again(serve: Serve) -> None:
    script = Script(slow)
    page = call(serve(script), one_page, timeout_s=0.3)
    assert page.frame.height == 1
    assert len(script.times) == 2


def test_retries_end_and_the_error_names_host_path_and_attempts(serve: Serve) -> None:
    script = Script(*[json_answer({"code": -1000, "msg": "unknown"}, 503) for _ in range(9)])
    url = serve(script)
    with pytest.raises(errors.RetriesExhaustedError) as failure:
        call(url, one_page)
    assert len(script.times) == 4
    assert "4 attempts" in failure.value.what
    assert "HTTP 503" in failure.value.what
    assert failure.value.where == f"{url}/api/v3/klines"
    assert not failure.value.host_wide


@pytest.mark.parametrize("status", [429, 418])
def test_nothing_is_sent_within_retry_after(serve: Serve, status: int) -> None:
    script = Script(*[json_answer({"code": -1003, "msg": "Too many"}, status, **{"Retry-After": "1"})])

    async def five(client: ExchangeClient) -> None:
        await asyncio.gather(*(client.klines_page("BTCUSDT", "1m", 0, 60_000) for _ in range(5)))

    call(serve(script), five, concurrency=1)
    assert len(script.times) == 6
    assert script.times[1] - script.times[0] >= 0.99


def test_a_ban_longer_than_our_patience_is_an_error_and_the_next_request_is_not_even_sent(
    serve: Serve,
) -> None:
    ban = {"code": -1003, "msg": "Way too much; IP banned until 1999999999999"}
    script = Script(json_answer(ban, 418, **{"Retry-After": "7200"}))

    async def twice(client: ExchangeClient) -> list[errors.ExchangeError]:
        raised = []
        for _ in range(2):
            with pytest.raises(errors.ExchangeError) as failure:
                await one_page(client)
            raised.append(failure.value)
        return raised

    first, second = call(serve(script), twice)
    assert isinstance(first, errors.BannedError)
    assert "banned until 1999999999999" in first.what
    assert "7200 s" in first.what
    assert second.host_wide
    assert len(script.times) == 1


def test_429_without_an_end_ends(serve: Serve) -> None:
    script = Script(*[json_answer({}, 429, **{"Retry-After": "0"}) for _ in range(9)])
    with pytest.raises(errors.RateLimitedError, match="4 attempts"):
        call(serve(script), one_page)
    assert len(script.times) == 4


@pytest.mark.parametrize(("answer", "kind", "said"), [
    (lambda: web.Response(status=451, text="{}"), errors.RegionBlockedError, "451"),
    (lambda: web.Response(status=403, text="<html/>", content_type="text/html"), errors.FirewallError, "403"),
    (lambda: web.Response(text="<html/>", content_type="text/html"), errors.NotAnExchangeError, "html"),
    (lambda: web.Response(status=404, text="not here"), errors.NotAnExchangeError, "404"),
    (lambda: web.Response(status=302, headers={"Location": "http://a/"}), errors.NotAnExchangeError, "//a/"),
    (lambda: json_answer({"status": "ok"}), errors.NotAnExchangeError, "expected a list"),
    (lambda: json_answer({"code": -1127, "msg": "More"}, 400), errors.RequestRefusedError, "-1127"),
    (lambda: json_answer({"code": -1120, "msg": "Invalid"}, 400), errors.UnknownIntervalError, "-1120"),
])  # fmt: skip
def test_what_no_retry_can_mend_is_said_at_once(
    serve: Serve, answer: Callable[[], web.Response], kind: type[errors.ExchangeError], said: str
) -> None:
    script = Script(answer())
    url = serve(script)
    with pytest.raises(kind, match=said) as failure:
        call(url, one_page)
    assert len(script.times) == 1
    assert type(failure.value) is kind
    assert url in failure.value.where
    assert failure.value.remedy


@pytest.mark.parametrize(("code", "message"), [
    (-1121, "Invalid symbol."),
    (-1100, "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'."),
])  # fmt: skip
@pytest.mark.parametrize("given", ["BTCUSD", "btcusdt", "BTC/USDT"])
def test_an_unknown_symbol_is_told_with_its_near_matches(
    serve: Serve, code: int, message: str, given: str
) -> None:
    script = Script(json_answer({"code": code, "msg": message}, 400))
    with pytest.raises(errors.UnknownSymbolError) as failure:
        call(serve(script), lambda client: client.klines(given, "1m"))
    assert repr(given) in failure.value.what
    assert "BTCUSDT" in failure.value.remedy
    assert "ETHUSDT" not in failure.value.remedy


def test_an_unreachable_host_is_told_after_a_few_attempts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(errors.UnreachableError, match="4 attempts") as failure:
        call(f"http://127.0.0.1:{port}", one_page)
    assert failure.value.host_wide
    assert f"127.0.0.1:{port}" in failure.value.where


@pytest.mark.parametrize("url", ["", "api.binance.com", "ftp://x", "http://", "https://x/api", "http://x:port",
                                 "https://user:secret@x"])  # fmt: skip
def test_what_is_no_base_url_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(MarketError, match="base URL"):
        ExchangeClient(url)


def test_connections_are_reused_and_bounded(serve: Serve) -> None:
    peers: set[Any] = set()
    at_once = [0, 0]

    async def count(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        at_once[0] += 1
        at_once[1] = max(at_once)
        await asyncio.sleep(0.005)
        at_once[0] -= 1
        return json_answer(GOOD)

    async def many(client: ExchangeClient) -> None:
        await asyncio.gather(*(one_page(client) for _ in range(40)))
        assert client.traffic.requests == 40

    call(serve(count), many, concurrency=3)
    assert len(peers) <= 3
    assert at_once[1] <= 3


def test_futures_weight_follows_the_limit(serve: Serve) -> None:
    async def weights(client: ExchangeClient) -> list[int]:
        return [
            (await client.klines_page("X", "1m", limit=limit)).weight for limit in (99, 100, 499, 500, 1000)
        ]

    assert call(serve(Script()), weights, api=USD_M) == [1, 2, 2, 5, 5]


def test_the_budget_learns_from_the_answers_of_others(serve: Serve) -> None:
    budget = RequestBudget(100)
    script = Script(json_answer(GOOD, **{"X-MBX-USED-WEIGHT-1M": "37"}))
    call(serve(script), one_page, budget=budget)
    assert budget.used == 37


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7), ("soon", 60), ("inf", 60), ("nan", 60), ("-3", 0), ("1e308", 7 * 86_400)]
)
def test_an_odd_retry_after_neither_lifts_a_ban_nor_lasts_for_ever(said: str, seconds: float) -> None:
    assert transport._retry_after_s({"Retry-After": said}) == seconds
