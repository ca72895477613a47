"""Weight, 429 and 418, faults on demand, the clock and the counters."""

from __future__ import annotations

import http.client
import time
import urllib.error

import pytest

from market.exchange.clock import ExchangeClock, parse_time
from market.exchange.launch import start_exchange
from market.exchange.limits import LimitPolicy, WeightLimiter
from market.exchange.source import ExchangeSetupError

NOW_MS = 1_741_867_230_500  # 2025-03-13T12:00:30.500Z
MINUTE_MS = 60_000
KLINES = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=5"


class Seconds:
    """A clock that tests set by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_weight_is_refused_over_the_budget_and_the_minute_restores_it():
    clock = Seconds(600 * 60 + 20.0)
    limiter = WeightLimiter(LimitPolicy(weight_per_minute=10, strikes=2, ban_s=100), clock)
    assert [limiter.admit("a", 4).status for _ in range(3)] == [200, 200, 429]
    assert limiter.admit("b", 4).status == 200  # another address has a budget of its own
    verdict = limiter.admit("a", 4)
    assert (verdict.status, verdict.retry_after_s) == (429, 40)
    clock.now += verdict.retry_after_s
    assert limiter.admit("a", 4).status == 200
    assert limiter.used("a") == 4


def test_going_on_after_429_brings_a_ban_that_doubles():
    clock = Seconds(600 * 60 + 20.0)
    limiter = WeightLimiter(LimitPolicy(weight_per_minute=1, strikes=2, ban_s=100), clock)
    assert [limiter.admit("a", 1).status for _ in range(4)] == [200, 429, 429, 418]
    clock.now += 99
    verdict = limiter.admit("a", 1)
    assert (verdict.status, verdict.retry_after_s) == (418, 1)
    clock.now += 1
    assert limiter.admit("a", 1).status == 200
    statuses = [limiter.admit("a", 1) for _ in range(3)]
    assert [verdict.status for verdict in statuses] == [429, 429, 418]
    assert statuses[-1].retry_after_s == 200


def test_raw_requests_have_a_window_of_five_minutes():
    clock = Seconds(1000 * 300 + 290.0)
    limiter = WeightLimiter(LimitPolicy(weight_per_minute=0, raw_per_5m=3), clock)
    assert [limiter.admit("a", 50).status for _ in range(4)] == [200, 200, 200, 429]
    clock.now += 10
    assert limiter.admit("a", 50).status == 200


def test_the_server_says_429_then_418_with_retry_after(exchange, fetch):
    exchange.set_limits(weight_per_minute=3, strikes=1, ban_s=90)
    if time.time() % 60 > 57:  # all three requests must fall into one minute
        time.sleep(3.1)
    assert fetch(KLINES)[0] == 200
    status, body, headers = fetch(KLINES)
    assert status == 429
    assert body["code"] == -1003
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["x-mbx-used-weight-1m"] == "4"
    before = time.time()
    status, body, headers = fetch(KLINES)
    assert status == 418
    assert 88 <= int(headers["retry-after"]) <= 90
    banned_until = int(body["msg"].split("IP banned until ")[1].split(".")[0])
    assert 88 <= banned_until / 1000 - before <= 91
    assert fetch("/api/v3/ping")[0] == 418
    assert fetch("/klinecast/v1/info")[0] == 200  # the control routes have no weight


@pytest.mark.parametrize("status", [451, 403, 500, 503, 429, 418])
def test_a_status_comes_as_often_as_asked(exchange, fetch, status):
    exchange.add_fault(path="/api/v3/klines", status=status, count=2, retry_after=7)
    assert fetch("/api/v3/time")[0] == 200
    for _ in range(2):
        got, _, headers = fetch(KLINES)
        assert got == status
        assert headers["retry-after"] == "7"
    assert fetch(KLINES)[0] == 200


@pytest.mark.parametrize(
    "mutation", ["high_below_low", "not_a_number", "negative_volume", "missing_field", "taker_above_volume"]
)
def test_one_row_is_damaged_and_only_that_one(exchange, fetch, mutation):
    _, sound, _ = fetch(KLINES)
    victim = sound[2][0]
    exchange.add_fault(malformed_row=True, symbol="BTCUSDT", open_time=victim, mutation=mutation)
    assert fetch(KLINES.replace("BTCUSDT", "ETHUSDT"))[0] == 200  # not the symbol meant: the fault stays
    _, damaged, _ = fetch(KLINES)
    assert [row[0] for row in damaged if row not in sound] == [victim]
    assert fetch(KLINES)[1] == sound


def test_a_truncated_body_and_a_reset_connection(exchange, fetch):
    exchange.add_fault(path="/api/v3/klines", truncate=True)
    with pytest.raises(http.client.IncompleteRead):
        fetch(KLINES)
    exchange.add_fault(path="/api/v3/klines", reset=True)
    with pytest.raises((ConnectionResetError, urllib.error.URLError, http.client.RemoteDisconnected)):
        fetch(KLINES)
    assert fetch(KLINES)[0] == 200


def test_latency(exchange, fetch):
    exchange.add_fault(latency_ms=300, path="/api/v3/time")
    start = time.monotonic()
    assert fetch("/api/v3/time")[0] == 200
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize(
    "fault", [{"colour": "red"}, {"count": "three"}, {"status": 42}, {"mutation": "odd"}, {"reset": 1}]
)
def test_an_unknown_fault_is_refused(exchange, fault):
    with pytest.raises(ExchangeSetupError, match="400"):
        exchange.add_fault(**fault)


def test_counters_count_requests_rows_and_weight(exchange, fetch):
    for _ in range(3):
        fetch(KLINES)
    fetch("/api/v3/klines?symbol=NOSUCH&interval=1m")
    fetch("/api/v3/time")
    served = exchange.info()["served"]
    counted = {"requests": 4, "refused": 1, "rows": 15, "weight": 8}
    assert served["routes"]["/api/v3/klines"].items() >= counted.items()
    assert served["total"]["weight"] == 9
    exchange.reset_counters()
    assert exchange.info()["served"]["total"]["requests"] == 0


def test_the_clock_runs_and_steps_forward_only():
    seconds = Seconds(0.0)
    clock = ExchangeClock(1_000_000, 60.0, seconds)
    seconds.now = 2.0
    assert clock.now() == 1_120_000
    assert clock.set(now_ms=2_000_000, speed=0) == 2_000_000
    seconds.now = 50.0
    assert clock.now() == 2_000_000
    with pytest.raises(ExchangeSetupError, match="only goes forward"):
        clock.set(now_ms=1_999_999)
    for speed in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ExchangeSetupError, match="speed"):
            clock.set(speed=speed)


def test_times_are_read_as_iso_or_ms():
    assert parse_time("2025-03-13T12:00:30.500") == NOW_MS == parse_time(str(NOW_MS))
    assert parse_time("2025-03-13T14:00:30.500+02:00") == NOW_MS
    with pytest.raises(ExchangeSetupError, match="not a time"):
        parse_time("yesterday")


def test_the_control_route_steps_the_clock_and_bars_close():
    with start_exchange(symbols=1, now=NOW_MS, speed=0) as running:
        rows = running.call("GET", KLINES)
        assert running.set_clock(now_ms=NOW_MS + MINUTE_MS) == NOW_MS + MINUTE_MS
        later = running.call("GET", KLINES)
        assert rows[:-1][1:] == later[:-2]
        assert later[-2][0] == rows[-1][0]
        assert later[-2][5] != rows[-1][5]  # the open bar went on growing
        with pytest.raises(ExchangeSetupError, match="only goes forward"):
            running.set_clock(now_ms=NOW_MS)
        running.set_clock(speed=1000)
        before = running.call("GET", "/api/v3/time")["serverTime"]
        time.sleep(0.02)
        assert running.call("GET", "/api/v3/time")["serverTime"] >= before + 20_000


def test_the_truth_comes_for_closed_bars(exchange, fetch):
    query = "symbol=BTCUSDT&interval=5m&limit=50"
    _, truth, _ = fetch(f"/klinecast/v1/truth?{query}&horizon=6")
    _, rows, _ = fetch(f"/api/v3/klines?{query}")
    closed = [row[0] for row in rows if row[6] < NOW_MS]
    assert truth["open_time"] == closed
    assert len(truth["p_up"]) == len(truth["mean"]) == len(truth["std"]) == len(closed)
    assert all(0 < p < 1 for p in truth["p_up"])
    assert fetch(f"/klinecast/v1/truth?{query}&horizon=0")[0] == 400
    assert fetch("/klinecast/v1/truth?symbol=NOSUCH&interval=5m&horizon=6")[0] == 400
