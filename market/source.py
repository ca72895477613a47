"""Where bars come from: what the rest of the platform asks of an exchange, whatever speaks to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # the settings read the names below, and should not load an HTTP client
    import polars as pl

    from market.transport import Traffic
    from market.wire import KlinePage, SymbolInfo

Kind = Literal["rest", "ccxt"]
MarketName = Literal["spot", "usd_m"]
"""Markets of one exchange: spot, or perpetual futures settled in dollar coins."""


class KlineSource(Protocol):
    """An exchange that can be asked for bars; within ``async with``.

    Attributes
    ----------
    name : str
        What the source is called in reports and in the quarantine.
    base_url : str
        Where it is asked, for messages.
    kind : str
        "rest" (Binance's protocol) or "ccxt": what the gap ledger notes as asked.
    concurrency : int
        Requests in flight at once.
    max_klines : int
        Most bars that one request returns.
    traffic : Traffic
        Requests, weight, retries, bytes and waiting time so far.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - told by the class

    @property
    def base_url(self) -> str: ...  # noqa: D102

    @property
    def kind(self) -> Kind: ...  # noqa: D102

    @property
    def concurrency(self) -> int: ...  # noqa: D102

    @property
    def max_klines(self) -> int: ...  # noqa: D102

    @property
    def traffic(self) -> Traffic: ...  # noqa: D102

    @property
    def told_weight_limit(self) -> int:
        """Weight a minute that the exchange has said it allows; 0 if nobody has asked it yet."""
        ...

    def best_limit(self, bars: int) -> int:
        """Return the page size, at most `max_klines`, that brings `bars` bars for the least weight."""
        ...

    async def server_time(self) -> int:
        """Return the exchange's clock: ms since the epoch."""
        ...

    async def exchange_info(self, *, refresh: bool = False) -> list[SymbolInfo]:
        """Return all symbols; asked for once, then remembered until `refresh`."""
        ...

    async def ticker_24h(self, symbols: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the rolling 24-hour figures of `symbols`, or of all: `wire.TICKER_SCHEMA`."""
        ...

    async def klines_page(
        self,
        symbol: str,
        interval: str,
        start: int | None = None,
        end: int | None = None,
        limit: int | None = None,
        *,
        unread: bool = False,
    ) -> KlinePage:
        """Return the oldest bars with open_time in [start, end), at most `limit` of them, oldest first.

        Without `start` they are the most recent ones before `end`; without `limit` as many as one request gives.
        An answer without a row means that there is none in [start, end), however long that is. With `unread` the
        page may be one whose rows nobody has looked at: the caller has to expect `wire.KlinePage.is_json` to be false.
        """
        ...

    async def first_open_time(self, symbol: str, interval: str) -> int | None:
        """Return the open time (ms) of the oldest bar that the exchange gives, None if it gives none."""
        ...
