"""The exchange as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.types import ASGIApp

from market.exchange.archive_endpoint import PREFIX as ARCHIVES
from market.exchange.archive_endpoint import ArchiveEndpoint
from market.exchange.control import control_routes
from market.exchange.delivery import ApiEndpoint, Gate
from market.exchange.exchange import Exchange, api_routes


def build_app(exchange: Exchange, token: str | None = None) -> ASGIApp:
    """Build the application: protocol routes, control routes and, where one is set, the token check.

    Parameters
    ----------
    exchange
        What is served.
    token
        Secret that every request must carry in ``X-MBX-APIKEY``.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        warming = asyncio.create_task(exchange.warm_up())
        yield
        warming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await warming

    endpoints = {
        path: ApiEndpoint(exchange, path, handler, weigher)
        for path, (handler, weigher) in api_routes(exchange).items()
    }
    folders = {ARCHIVES: ArchiveEndpoint(exchange)}
    return Gate(endpoints, folders, Starlette(routes=control_routes(exchange), lifespan=lifespan), token)
