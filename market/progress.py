"""How far a long job of this package has come, for a progress bar or a log line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

LOOK_S: Final = 0.5
"""How often it is looked whether something is being tried again."""


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
    trouble : str
        What is wrong while something is tried again, else empty.
    """

    task: str
    done: int
    expected: int
    seconds: float
    unit: str = "bars"
    detail: str = ""
    trouble: str = ""

    @property
    def rate(self) -> float:
        """Units per second so far."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """Seconds left at the rate so far; None while nothing is done."""
        return (self.expected - self.done) / self.rate if self.rate > 0 else None


ProgressCallback = Callable[[Progress], None]


class Troubled(Protocol):
    """Something that says what is wrong with it while it tries again, such as `market.transport.Traffic`."""

    @property
    def trouble(self) -> str:
        """What is wrong; empty while nothing is."""
        ...


@asynccontextmanager
async def telling_trouble(traffic: Troubled, tell: Callable[[str], None]) -> AsyncIterator[None]:
    """Tell what is wrong with `traffic`, once each, while the context is open: retries may take a minute."""
    watching = asyncio.create_task(_watch(traffic, tell))
    try:
        yield
    finally:
        watching.cancel()


async def _watch(traffic: Troubled, tell: Callable[[str], None]) -> None:
    told = ""
    while True:
        await asyncio.sleep(LOOK_S)
        trouble = traffic.trouble
        if trouble and trouble != told:
            tell(trouble)
        told = trouble
