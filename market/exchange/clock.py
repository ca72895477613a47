"""The exchange's clock: starts anywhere, runs at any speed, steps only forward."""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable

from market.exchange.source import ExchangeSetupError


class ExchangeClock:
    """A clock in ms since the epoch.

    Parameters
    ----------
    now_ms
        Its time now; None for the real time.
    speed
        Exchange milliseconds per real millisecond; 0 stands still.
    monotonic
        Source of real seconds.
    stops_at
        Where it stops by itself (ms): at the end of a recording, after which nothing is known. Set to a later time,
        it stands there.
    """

    def __init__(
        self,
        now_ms: int | None = None,
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        stops_at: int | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._anchor_ms = float(time.time() * 1000 if now_ms is None else now_ms)
        self._anchor = monotonic()
        self._speed = _checked_speed(speed)
        self._stops_at = math.inf if stops_at is None else float(stops_at)

    @property
    def stopped(self) -> bool:
        """Whether it has come to where it stops by itself, or stands beyond."""
        return self._exact() >= self._stops_at

    @property
    def speed(self) -> float:
        """Exchange milliseconds per real millisecond now: 0 where it has stopped."""
        return 0.0 if self.stopped else self._speed

    def now(self) -> int:
        """Return the exchange's time in ms."""
        return int(self._exact())

    def set(self, now_ms: int | None = None, speed: float | None = None) -> int:
        """Step forward to ``now_ms`` and/or run at another speed; returns the new time.

        Raises
        ------
        ExchangeSetupError
            If the time lies before the clock's, or the speed is negative or not a number.
        """
        new_speed = self._speed if speed is None else _checked_speed(speed)
        current = self._exact()
        if now_ms is not None and now_ms < int(current):
            raise ExchangeSetupError(
                f"the clock only goes forward: it is {int(current)}, asked for {now_ms}",
                where="now_ms",
                remedy=f"give a time of at least {int(current)}, or restart the exchange with --now",
            )
        self._anchor_ms = current if now_ms is None else max(current, float(now_ms))
        self._anchor = self._monotonic()
        self._speed = new_speed
        return self.now()

    def _exact(self) -> float:
        run = self._anchor_ms + (self._monotonic() - self._anchor) * 1000.0 * self._speed
        return min(run, max(self._anchor_ms, self._stops_at))


def _checked_speed(speed: float) -> float:
    if not math.isfinite(speed) or speed < 0:
        raise ExchangeSetupError(
            f"speed {speed!r} is not possible",
            where="speed",
            remedy="give 0 (frozen), 1 (real time) or any positive number",
        )
    return float(speed)


def parse_time(text: str) -> int:
    """Read a time given as ISO 8601 (UTC unless it says otherwise) or as ms since the epoch.

    Raises
    ------
    ExchangeSetupError
        If it is neither.
    """
    if text.strip().isdecimal():
        return int(text)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ExchangeSetupError(
            f"{text!r} is not a time",
            where="--now",
            remedy="write ISO 8601, such as 2025-10-01T12:00 (UTC), or milliseconds since 1970",
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return round(moment.timestamp() * 1000)


def format_time(ms: int) -> str:
    """Return a time as ISO 8601 in UTC."""
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat(timespec="milliseconds")
