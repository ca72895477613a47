"""Weight per host: full speed first, then spread, then stopped, and going on when the minute has turned."""

from __future__ import annotations

import pytest

from market.rate_limit import RequestBudget, budget_of


class Clock:
    def __init__(self) -> None:
        self.now = 60.0 * 1000

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_exchanges_limit_is_never_passed_over_many_minutes(clock: Clock) -> None:
    """An exchange whose minute turns 23 s after ours counts what is sent as fast as the budget allows."""
    limit, used, minute, sent = 600, 0, -1, 0
    budget = RequestBudget(limit, clock=clock)
    started = clock.now
    while clock.now < started + 600:
        delay = budget.try_acquire(2)
        if delay > 0:
            clock.now += delay
            continue
        turn = int((clock.now - 23) // 60)
        if turn != minute:
            minute, used = turn, 0
        used += 2
        sent += 2
        assert used <= limit * 0.95
        budget.settle(2, used)
        clock.now += 0.01
    assert sent >= 10 * limit * 0.8, "and the limit is put to use"


def test_up_to_the_slow_share_nothing_waits_then_requests_are_spread(clock: Clock) -> None:
    budget = RequestBudget(1000, slow_from=0.5, ceiling=0.9, clock=clock)
    for _ in range(250):
        assert budget.try_acquire(2) == 0
        budget.settle(2, budget.used + 2)
    assert budget.used == 500
    assert budget.try_acquire(2) == 0
    budget.settle(2, 502)
    assert budget.try_acquire(2) == 0
    budget.settle(2, 504)
    delay = budget.try_acquire(2)
    assert delay == pytest.approx(60 * 2 / 398, rel=0.02), "what is left, over what is left of the minute"


def test_requests_in_flight_count(clock: Clock) -> None:
    budget = RequestBudget(20, slow_from=1.0, ceiling=1.0, clock=clock)
    assert [budget.try_acquire(5) for _ in range(4)] == [0, 0, 0, 0]
    assert budget.try_acquire(5) > 0


def test_a_pause_holds_everything_and_is_not_cut_short(clock: Clock) -> None:
    budget = RequestBudget(clock=clock)
    budget.pause(30)
    budget.pause(5)
    assert budget.try_acquire(1) == pytest.approx(30)
    assert budget.paused_s() == pytest.approx(30)
    clock.now += 30
    assert budget.try_acquire(1) == 0


def test_a_host_that_tells_no_count_is_counted_here(clock: Clock) -> None:
    budget = RequestBudget(10, slow_from=1.0, ceiling=1.0, clock=clock)
    for _ in range(5):
        assert budget.try_acquire(2) == 0
        budget.settle(2, None)
    wait = budget.try_acquire(2)
    assert wait > 0
    clock.now += 60
    assert budget.try_acquire(2) == 0


def test_clients_of_one_host_share_a_budget() -> None:
    assert budget_of("a:1") is budget_of("a:1")
    assert budget_of("a:1") is not budget_of("a:2")


def test_a_clock_that_was_set_back_starves_nobody(clock: Clock) -> None:
    clock.now += 365 * 86_400
    budget = RequestBudget(100, clock=clock)
    while budget.try_acquire(2) == 0:
        budget.settle(2, budget.used + 2)
    budget.pause(3_600)
    clock.now -= 30 * 86_400
    assert budget.paused_s() == 0
    assert budget.try_acquire(2) <= 60


def test_a_ban_of_three_days_holds(clock: Clock) -> None:
    budget = RequestBudget(clock=clock)
    budget.pause(3 * 86_400)
    clock.now += 86_400
    assert budget.paused_s() == 2 * 86_400
