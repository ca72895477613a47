"""How far a long job of this package has come, for a progress bar or a log line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One report.

    Attributes
    ----------
    task : str
        What is being done, e.g. "klines".
    done, expected : int
        Units settled (stored or known to be absent) and units in all, known from the start.
    seconds : float
        Since the start.
    unit : str
        What is counted.
    detail : str
        What was finished last, e.g. "BTCUSDT 1m".
    """

    task: str
    done: int
    expected: int
    seconds: float
    unit: str = "bars"
    detail: str = ""

    @property
    def rate(self) -> float:
        """Units per second so far."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """Seconds left at the rate so far; None while nothing is done."""
        return (self.expected - self.done) / self.rate if self.rate > 0 else None


ProgressCallback = Callable[[Progress], None]
