"""Request weight per address, as the exchange keeps it: 429 over the budget, 418 for those who go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

MINUTE_S = 60
RAW_WINDOW_S = 300
MAX_BAN_S = 3 * 86_400


@dataclass(frozen=True)
class LimitPolicy:
    """Budgets per address; 0 means without limit.

    ``strikes`` is how many requests after a 429, inside the same window, bring the ban of ``ban_s`` seconds;
    each further ban lasts twice as long, three days at most.
    """

    weight_per_minute: int = 6_000
    raw_per_5m: int = 61_000
    strikes: int = 5
    ban_s: float = 120.0


@dataclass(frozen=True)
class Verdict:
    """Whether a request may go on: status 200, 429 or 418, the weight used so far, seconds to stay away."""

    status: int
    used_weight: int
    retry_after_s: int = 0
    banned_until: float = 0.0


@dataclass
class _Account:
    minute: int = -1
    weight: int = 0
    raw_window: int = -1
    raw: int = 0
    strikes: int = 0
    bans: int = 0
    banned_until: float = 0.0


class WeightLimiter:
    """Counts weight and requests per address in windows of real time that begin on the full minute."""

    def __init__(self, policy: LimitPolicy, clock: Callable[[], float] = time.time) -> None:
        self.policy = policy
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def reset(self) -> None:
        """Forget all use, strikes and bans."""
        self._accounts.clear()

    def used(self, address: str) -> int:
        """Return the weight used in the current minute."""
        account = self._accounts.get(address)
        return account.weight if account and account.minute == int(self._clock() // MINUTE_S) else 0

    def admit(self, address: str, weight: int) -> Verdict:
        """Count a request and say whether it is served."""
        now = self._clock()
        account = self._accounts.setdefault(address, _Account())
        if now < account.banned_until:
            wait = math.ceil(account.banned_until - now)
            return Verdict(418, account.weight, wait, account.banned_until)
        self._open_windows(account, now)
        account.weight += weight
        account.raw += 1
        policy = self.policy
        waits = []
        if policy.weight_per_minute and account.weight > policy.weight_per_minute:
            waits.append((account.minute + 1) * MINUTE_S - now)
        if policy.raw_per_5m and account.raw > policy.raw_per_5m:
            waits.append((account.raw_window + 1) * RAW_WINDOW_S - now)
        if not waits:
            return Verdict(200, account.weight)
        account.strikes += 1
        if account.strikes > policy.strikes:
            return self._ban(account, now)
        return Verdict(429, account.weight, max(1, math.ceil(max(waits))))

    def _open_windows(self, account: _Account, now: float) -> None:
        minute, raw_window = int(now // MINUTE_S), int(now // RAW_WINDOW_S)
        if account.minute != minute:
            account.minute, account.weight, account.strikes = minute, 0, 0
        if account.raw_window != raw_window:
            account.raw_window, account.raw = raw_window, 0

    def _ban(self, account: _Account, now: float) -> Verdict:
        length = min(self.policy.ban_s * 2**account.bans, MAX_BAN_S)
        account.bans += 1
        account.strikes = 0
        account.banned_until = now + length
        return Verdict(418, account.weight, math.ceil(length), account.banned_until)
