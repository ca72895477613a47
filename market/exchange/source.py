"""What the server asks of a market, whether simulated or recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from market.errors import MarketError


class ExchangeSetupError(MarketError):
    """The built-in exchange cannot start or cannot serve what it was given."""


class ListenError(ExchangeSetupError):
    """The built-in exchange cannot listen where it should."""


@dataclass(frozen=True)
class KlineQuery:
    """A checked request for klines; times in ms, both ends inclusive, None where not given."""

    symbol: str
    interval: str
    start_time: int | None
    end_time: int | None
    limit: int
    microseconds: bool = False


@dataclass(frozen=True)
class KlinePage:
    """A rendered page: the JSON array, its row count, and whether it can never change (no open bar in it)."""

    body: bytes
    rows: int
    settled: bool


@dataclass(frozen=True)
class Instrument:
    """What exchangeInfo tells about a symbol; prices and quantities have these decimals."""

    symbol: str
    base: str
    quote: str
    status: str
    tick_decimals: int
    step_decimals: int


@dataclass(frozen=True)
class DayStatistics:
    """The rolling day behind ticker/24hr; prices and sums as floats, rendered with 8 decimals."""

    symbol: str
    open_time: int
    close_time: int
    open: float
    high: float
    low: float
    last: float
    previous_close: float
    last_quantity: float
    volume: float
    quote_volume: float
    trades: int
    tick: float


def no_statistics(symbol: str, now_ms: int) -> DayStatistics:
    """Return the statistics of a day without a bar: zeros, as the exchange gives them."""
    return DayStatistics(symbol, now_ms - 86_400_000, now_ms, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class Market(Protocol):
    """A market that the server can serve."""

    kind: str

    def instruments(self, now_ms: int) -> list[Instrument]:
        """Return the symbols listed at a time, in a stable order."""
        ...

    def instrument(self, symbol: str, now_ms: int) -> Instrument | None:
        """Return one listed symbol, or None."""
        ...

    def serves(self, interval: str) -> bool:
        """Tell whether bars of this interval are served."""
        ...

    def klines(self, query: KlineQuery, now_ms: int) -> KlinePage:
        """Render one page of bars as of ``now_ms``."""
        ...

    def day_statistics(self, symbol: str, now_ms: int) -> DayStatistics:
        """Return the last 24 hours of a symbol; zeros where it had no bar."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what ``GET /klinecast/v1/info`` tells about the market."""
        ...
