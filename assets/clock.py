"""The platform's clock is the exchange's: read at each ingest, carried on from there."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from assets.state_files import read_json, write_json

_FILE = "clock.json"


@dataclass(frozen=True)
class ExchangeClock:
    """The exchange's clock as last read, so that a sweep knows the time without asking.

    Attributes
    ----------
    exchange_ms, wall_ms
        The exchange's time and this machine's at the same moment, ms since the epoch.
    speed
        Seconds that pass on the exchange per second here; 1 but for a simulated or replayed clock.
    """

    exchange_ms: int
    wall_ms: int
    speed: float = 1.0

    def now_ms(self) -> int:
        """Return the exchange's time now."""
        return int(self.exchange_ms + (wall_clock_ms() - self.wall_ms) * self.speed)


def wall_clock_ms() -> int:
    """Return this machine's time in ms since the epoch."""
    return time.time_ns() // 1_000_000


def record_clock(home: Path, exchange_ms: int, speed: float = 1.0) -> ExchangeClock:
    """Keep the exchange's clock, as just read, for whoever needs the time later."""
    clock = ExchangeClock(exchange_ms, wall_clock_ms(), speed)
    write_json(home / _FILE, asdict(clock))
    return clock


def recorded_clock(home: Path) -> ExchangeClock | None:
    """Return the clock that the last ingest recorded, or None before the first one."""
    record = read_json(home / _FILE)
    return ExchangeClock(**record) if record else None


def latest_known_ms(home: Path) -> int:
    """Return a time that the exchange's clock has not passed for all that is known here, ms.

    Where a home has seen an exchange whose clock is ahead of this machine's, that one counts.
    """
    clock = recorded_clock(home)
    return max(wall_clock_ms(), clock.now_ms() if clock else 0)
