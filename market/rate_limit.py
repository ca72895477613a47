"""Request weight per host: how much may be sent now, and when to hold back.

The exchange counts weight per address and minute and tells its count in every answer; that count, not ours,
is the truth, since other processes share the address. All clients of one process share one budget per host.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

SPOT_WEIGHT_PER_MINUTE = 6_000
_MINUTE_S = 60.0


class RequestBudget:
    """Weight that may be spent on one host.

    Up to `slow_from` of the limit requests go at once. From there on they are spread evenly over what is left
    of the minute, and at `ceiling` they stop: the rest of the limit is left to other users of the address.
    While stopped, a single request every `probe_s` asks whether the exchange's minute has turned; the two
    clocks need not agree. Safe to use from several threads and event loops.

    Parameters
    ----------
    weight_per_minute : int
        The exchange's limit.
    slow_from, ceiling : float
        Shares of the limit.
    probe_s : float
        Seconds between probes while stopped.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self,
        weight_per_minute: int = SPOT_WEIGHT_PER_MINUTE,
        *,
        slow_from: float = 0.7,
        ceiling: float = 0.9,
        probe_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.weight_per_minute = weight_per_minute
        self._slow_from = slow_from
        self._ceiling = ceiling
        self._probe_s = probe_s
        self._clock = clock
        self._lock = threading.Lock()
        self._used = 0  # by the exchange's last word, plus what we sent to a host that gives none
        self._in_flight = 0
        self._told = False  # does this host tell its count at all?
        self._minute = int(clock() // _MINUTE_S)
        self._next_slot = 0.0
        self._resume_at = 0.0

    @property
    def used(self) -> int:
        """Weight used in the current minute, as far as known."""
        return self._used

    def paused_s(self) -> float:
        """Return the seconds for which the exchange has forbidden any request; 0 if it has not."""
        return max(0.0, self._resume_at - self._clock())

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds` (Retry-After); a shorter pause never cuts a longer one."""
        with self._lock:
            self._resume_at = max(self._resume_at, self._clock() + seconds)

    async def acquire(self, weight: int) -> None:
        """Wait until a request of `weight` may go; every `acquire` must be followed by `settle`."""
        while (delay := self.try_acquire(weight)) > 0:
            await asyncio.sleep(delay)

    def try_acquire(self, weight: int) -> float:
        """Reserve `weight` and return 0, or return the seconds to wait before asking again."""
        with self._lock:
            now = self._clock()
            if now < self._resume_at:
                return self._resume_at - now
            self._turn_own_minute(now)
            if now < self._next_slot:
                return self._next_slot - now
            committed = self._used + self._in_flight
            left = self.weight_per_minute * self._ceiling - committed
            to_turn = _MINUTE_S - now % _MINUTE_S
            if left < weight:  # this one goes as the probe, the next one waits
                self._next_slot = now + min(self._probe_s, to_turn)
                if self._told and self._in_flight == 0:
                    self._in_flight += weight
                    return 0.0
                return self._next_slot - now
            if committed > self.weight_per_minute * self._slow_from:
                self._next_slot = now + to_turn * weight / left
            self._in_flight += weight
            return 0.0

    def settle(self, weight: int, used: int | None) -> None:
        """Take back a reservation; `used` is the exchange's count from the answer, None without an answer."""
        with self._lock:
            self._in_flight -= weight
            if used is None:
                self._used += weight
                return
            if used < self._used:  # the exchange's minute has turned: no reason to go on waiting
                self._next_slot = 0.0
            self._used = used
            self._told = True

    def _turn_own_minute(self, now: float) -> None:
        """Start a minute by our own clock where the host tells no count of its own."""
        minute = int(now // _MINUTE_S)
        if minute != self._minute:
            self._minute = minute
            if not self._told:
                self._used = 0


_budgets: dict[str, RequestBudget] = {}
_budgets_lock = threading.Lock()


def budget_of(host: str) -> RequestBudget:
    """Return the budget that all clients of this process share for `host` (name with port)."""
    with _budgets_lock:
        return _budgets.setdefault(host, RequestBudget())
