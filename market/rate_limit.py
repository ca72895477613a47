"""Request weight per host: how much may be sent now, and when to hold back.

The exchange counts weight per address and minute and tells its count in every answer; that count, not ours, is the
truth, since others may share the address. All processes of one user on this machine share one budget per host
(`market.rate_state`); programs of other users and other machines on the same address are seen in the count alone.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from market.rate_state import (
    LONGEST_BAN_S,
    BudgetMemory,
    BudgetState,
    FileMemory,
    ProcessMemory,
    state_file,
    state_folder,
)

Priority = Literal["sweep", "backfill"]

SPOT_WEIGHT_PER_MINUTE: Final = 6_000
FUTURES_WEIGHT_PER_MINUTE: Final = 2_400
NO_LIMIT: Final = 10**15
"""For a host whose requests have no weight: what is shared is how long it forbids any."""

_MINUTE_S: Final = 60.0
_BACKFILL_SLOW_FROM, _BACKFILL_CEILING = 0.6, 0.8  # shares of a sweep's slow_from and ceiling
_BACKFILL_LEAST = 0.1  # of the limit: what a backfill may take however much the sweeps do
_SWEEP_LINGERS_S: Final = 0.5  # a sweep's next request usually comes within that
_LONGEST_NAP_S: Final[dict[Priority, float]] = {
    "sweep": 0.25,
    "backfill": 1.0,
}  # others may learn of a turn first


class RequestBudget:
    """Weight that may be spent on one host.

    Up to `slow_from` of the limit requests go at once. From there on they are spread evenly over what is left
    of the minute, and at `ceiling` they stop: the rest of the limit is left to other users of the address.
    While stopped, a single request every `probe_s` asks whether the exchange's minute has turned; the two
    clocks need not agree. A backfill slows down and stops earlier (at 0.6 and 0.8 of these shares) and, once slow,
    lets every sweep that is under way finish first. It also leaves what sweeps have lately taken in a minute and not
    yet in this one, so that they find it; a sweep never waits for a backfill. Safe to use from several
    threads, event loops and, with a `FileMemory`, processes.

    Parameters
    ----------
    weight_per_minute : int
        The exchange's limit, until `weight_per_minute` is set to what the exchange itself says.
    slow_from, ceiling : float
        Shares of the limit.
    probe_s : float
        Seconds between probes while stopped.
    clock : callable
        Seconds since the epoch.
    memory : BudgetMemory, optional
        Where its state is kept; default: in this object.
    """

    def __init__(
        self,
        weight_per_minute: int = SPOT_WEIGHT_PER_MINUTE,
        *,
        slow_from: float = 0.8,
        ceiling: float = 0.9,
        probe_s: float = 5.0,
        clock: Callable[[], float] = time.time,
        memory: BudgetMemory | None = None,
    ) -> None:
        self._assumed_weight = weight_per_minute
        self._shares: dict[Priority, tuple[float, float]] = {
            "sweep": (slow_from, ceiling),
            "backfill": (slow_from * _BACKFILL_SLOW_FROM, ceiling * _BACKFILL_CEILING),
        }
        self._probe_s = probe_s
        self._clock = clock
        self._memory = memory or ProcessMemory()

    @property
    def weight_per_minute(self) -> int:
        """The exchange's limit: what it has said, or what was assumed."""
        with self._memory.change() as state:
            return self._limit(state)

    @weight_per_minute.setter
    def weight_per_minute(self, weight: int) -> None:
        with self._memory.change() as state:
            state.weight_per_minute = weight

    @property
    def told_limit(self) -> int:
        """The exchange's limit if it has said so to any process, else 0."""
        with self._memory.change() as state:
            return state.weight_per_minute

    @property
    def used(self) -> int:
        """Weight used in the current minute, as far as known."""
        with self._memory.change() as state:
            return state.used

    def paused_s(self) -> float:
        """Return the seconds for which the exchange has forbidden any request; 0 if it has not."""
        left = self._memory.resume_at() - self._clock()
        return (
            left if 0.0 < left <= LONGEST_BAN_S else 0.0
        )  # longer: noted by a clock that was set back since

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds` (Retry-After), from no process; a shorter pause never cuts a longer one."""
        with self._memory.change(durable=True) as state:
            state.resume_at = max(state.resume_at, self._clock() + seconds)

    async def acquire(
        self, weight: int, priority: Priority = "sweep", before_waiting: Callable[[], None] | None = None
    ) -> float:
        """Wait until a request of `weight` may go; returns that time, for `settle`, which must follow.

        `before_waiting` is called whenever it has to wait, at least once a second: it may raise.
        """
        while (delay := self.try_acquire(weight, priority)) > 0:
            if before_waiting is not None:
                before_waiting()
            await asyncio.sleep(min(delay, _LONGEST_NAP_S[priority]))
        return self._clock()

    def try_acquire(self, weight: int, priority: Priority = "sweep") -> float:
        """Reserve `weight` and return 0, or return the seconds to wait before asking again."""
        with self._memory.change() as state:
            now = self._clock()
            state.forget_another_time(now)
            if now < state.resume_at:
                return state.resume_at - now
            self._turn_minute(state, now)
            delay = self._delay(state, weight, priority, now)
            if priority == "sweep":
                nap = min(delay, _LONGEST_NAP_S["sweep"])
                state.sweep_until = max(state.sweep_until, now + nap + _SWEEP_LINGERS_S)
            if delay == 0:
                state.claim(os.getpid(), weight, now)
                state.sweep_now += weight if priority == "sweep" else 0
            return delay

    def settle(self, weight: int, used: int | None, sent_at: float | None = None) -> None:
        """Take back a reservation.

        Parameters
        ----------
        weight : int
            As it was acquired.
        used : int or None
            The exchange's count from the answer, None without an answer.
        sent_at : float, optional
            What `acquire` returned. An answer to a request that went before the last count came may be older than
            that count: then a lower one does not mean that the exchange's minute has turned.
        """
        with self._memory.change() as state:
            now = self._clock()
            state.claim(os.getpid(), -weight, now)
            if used is None:
                state.used += weight
                return
            if used < state.used:
                if sent_at is not None and sent_at < state.told_at and 2 * used > state.used:
                    return
                state.turn()
            state.used, state.told, state.told_at = used, True, now

    def release(self, weight: int) -> None:
        """Take back a reservation of a request that was not sent."""
        with self._memory.change() as state:
            state.claim(os.getpid(), -weight, self._clock())

    def _delay(self, state: BudgetState, weight: int, priority: Priority, now: float) -> float:
        """Return the seconds that a request has to wait, 0 if it may go; moves the slots of those that follow."""
        state.forget_the_dead(os.getpid(), now)
        slot = state.sweep_slot if priority == "sweep" else state.backfill_slot
        if now < slot:
            return slot - now
        limit = self._limit(state)
        slow_from, ceiling = self._bounds(state, priority, limit)
        in_flight = state.in_flight()
        committed = state.used + in_flight
        left = ceiling - committed
        to_turn = _MINUTE_S - now % _MINUTE_S
        if left < weight:
            may_probe = state.told and not in_flight and committed + weight <= limit
            return self._probe(state, now, to_turn, may_probe)
        if committed > slow_from:
            if priority == "backfill" and now < state.sweep_until:
                return state.sweep_until - now
            slot = now + to_turn * weight / left
            if priority == "sweep":
                state.sweep_slot = slot
            else:
                state.backfill_slot = slot
        return 0.0

    def _bounds(self, state: BudgetState, priority: Priority, limit: int) -> tuple[float, float]:
        """Return the weight from which requests are spread, and that at which they stop."""
        slow_from, ceiling = (share * limit for share in self._shares[priority])
        if priority == "backfill":
            expected = max(0, state.sweep_peak - state.sweep_now)
            at_once = self._shares["sweep"][0] * limit
            ceiling = min(ceiling, max(at_once - expected, _BACKFILL_LEAST * limit))
            slow_from = min(slow_from, ceiling * _BACKFILL_SLOW_FROM / _BACKFILL_CEILING)
        return slow_from, ceiling

    def _probe(self, state: BudgetState, now: float, to_turn: float, may_probe: bool) -> float:
        """Let a request go as the probe if it is time for one; the next one waits."""
        if now < state.probe_slot:
            return state.probe_slot - now
        pause = min(self._probe_s, to_turn)
        if may_probe:
            state.probe_slot = now + pause
            return 0.0
        return pause

    def _turn_minute(self, state: BudgetState, now: float) -> None:
        """Start a minute: by the exchange's count where it tells one, by our own clock where it does not."""
        minute = int(now // _MINUTE_S)
        if state.told:
            if now - state.told_at >= _MINUTE_S:  # whenever its minute turns, it has by now
                state.used, state.told_at = 0, now
                state.turn()
        elif minute != state.minute:
            state.used = 0
            state.turn()
        state.minute = minute

    def _limit(self, state: BudgetState) -> int:
        return state.weight_per_minute or self._assumed_weight


_budgets: dict[tuple[Path, str], RequestBudget] = {}
_budgets_lock = threading.Lock()


def budget_of(host: str, weight_per_minute: int = SPOT_WEIGHT_PER_MINUTE) -> RequestBudget:
    """Return the budget that all of this user's processes share for `host` (name with port).

    `weight_per_minute` is assumed until the exchange has said its own.

    Raises
    ------
    MarketError
        If its file cannot be kept.
    """
    key = state_folder(), host
    with _budgets_lock:
        if key not in _budgets:
            _budgets[key] = RequestBudget(weight_per_minute, memory=FileMemory(state_file(*key)))
        return _budgets[key]
