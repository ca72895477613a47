"""What goes wrong between ccxt and an exchange becomes errors that say what to do; what passes is tried again."""

from __future__ import annotations

import time
from typing import Any

import pytest

from market import client_errors as errors
from market.exchange.launch import RunningExchange
from market.sources.ccxt_source import CcxtSource
from tests.sources.ccxt_exchange import START, Prepare, through_ccxt


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 451}, errors.RegionBlockedError),
        ({"status": 403}, errors.FirewallError),
        ({"status": 503}, errors.RetriesExhaustedError),
        ({"reset": True}, errors.RetriesExhaustedError),
        ({"status": 429, "retry_after": 0}, errors.RateLimitedError),
        ({"status": 400, "body": '{"code":-1127,"msg":"More than allowed"}'}, errors.RequestRefusedError),
    ],
)
def test_faults_become_errors_that_say_what_to_do(
    served: RunningExchange, pointed: Prepare, fault: dict[str, Any], kind: type[errors.ExchangeError]
) -> None:
    async def work(source: CcxtSource) -> int:
        await source.exchange_info()
        await source.server_time()
        served.add_fault(path="/api/v3/klines", count=None, **fault)
        sent = source.traffic.requests
        with pytest.raises(kind) as failure:
            await source.klines_page("BTC/USDT", "1m", START, limit=5)
        assert "ccxt:binance" in failure.value.where
        assert failure.value.remedy
        return source.traffic.requests - sent

    asked = through_ccxt(pointed(served.url), work)
    assert asked == (3 if kind in (errors.RetriesExhaustedError, errors.RateLimitedError) else 1)


def test_a_ban_ends_it_at_once_and_is_kept_for_the_next_process(
    served: RunningExchange, pointed: Prepare
) -> None:
    async def banned(source: CcxtSource) -> None:
        await source.klines_page("BTC/USDT", "1m", START, limit=5)

    served.add_fault(path="/api/v3/klines", status=418, retry_after=7200)
    for _ in range(2):  # the second as a new source, as a restarted process would have
        with pytest.raises(errors.RateLimitedError, match=r"7[12]\d\d s"):
            through_ccxt(pointed(served.url), banned)
    routes = served.info()["served"]["routes"]
    assert routes["/api/v3/klines"]["requests"] == routes["/api/v3/exchangeInfo"]["requests"] == 1


def test_a_passing_fault_is_tried_again_and_nothing_is_sent_within_retry_after(
    served: RunningExchange, pointed: Prepare
) -> None:
    async def work(source: CcxtSource) -> tuple[int, float]:
        await source.server_time()
        await source.exchange_info()
        served.add_fault(path="/api/v3/klines", status=500)
        served.add_fault(path="/api/v3/klines", status=429, retry_after=1)
        started = time.monotonic()
        page = await source.klines_page("BTC/USDT", "1m", START, limit=5)
        return page.frame.height, time.monotonic() - started

    rows, took = through_ccxt(pointed(served.url), work)
    assert rows == 5
    assert took >= 1.0


def test_an_unreachable_exchange(pointed: Prepare) -> None:
    with pytest.raises(errors.UnreachableError, match="3 attempts"):
        through_ccxt(pointed("http://127.0.0.1:1"), lambda source: source.server_time())
