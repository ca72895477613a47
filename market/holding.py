"""Connections that are handed out only while the host may be asked."""

from __future__ import annotations

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from market.rate_limit import RequestBudget


class HeldBack(Exception):  # noqa: N818 - a signal to the transport, not an error
    """The host forbade requests while this one waited for its connection."""


class HoldingConnector(aiohttp.TCPConnector):
    """Hands out connections only while the host may be asked: a request is written as soon as it has one.

    Opening a connection takes a while, in which another request, or another process, may be told Retry-After.
    """

    def __init__(self, budget: RequestBudget, *, limit: int, keepalive_timeout: float = 30.0) -> None:
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout)
        self._budget = budget

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Return a connection, or raise `HeldBack`."""
        connection = await super().connect(req, traces, timeout)
        if self._budget.paused_s() > 0:
            connection.release()
            raise HeldBack
        return connection
