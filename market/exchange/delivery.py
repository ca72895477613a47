"""From a request on a protocol route to bytes on the connection: token, faults, weight, answer."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from market.exchange.exchange import Answer, Exchange, Handler, Weigher
from market.exchange.faults import Fault
from market.exchange.limits import LimitPolicy, Verdict
from market.exchange.protocol import ApiError

_JSON: Final = b"application/json;charset=UTF-8"
Headers = list[tuple[bytes, bytes]]


class ApiEndpoint:
    """One route of the exchange's protocol as an ASGI application."""

    def __init__(self, exchange: Exchange, path: str, handler: Handler, weigher: Weigher) -> None:
        self._exchange = exchange
        self._path = path
        self._handler = handler
        self._weigher = weigher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        exchange = self._exchange
        exchange.last_request = time.monotonic()
        counter = exchange.counter(self._path)
        counter.requests += 1
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        fault = exchange.faults.next_for(self._path, query) if exchange.faults.faults else None
        if fault is not None and await interrupted(fault, send):
            counter.refused += 1
            return
        weight = self._weigher(query)
        limiter = exchange.limiter_of(self._path)
        verdict = limiter.admit(_address(scope), weight)
        counter.weight += weight
        headers = _weight_headers(verdict)
        if verdict.status != 200:
            counter.refused += 1
            headers.append((b"retry-after", str(verdict.retry_after_s).encode()))
            await respond(send, verdict.status, _refusal(verdict, limiter.policy), headers)
            return
        try:
            answer = await self._handler(query, _microseconds(scope))
        except ApiError as error:
            counter.refused += 1
            await respond(send, error.status, error.body(), headers)
            return
        counter.rows += answer.rows
        counter.bytes += len(answer.body)
        body = self._damaged(fault, answer)
        if fault is not None and fault.truncate:
            await truncate(send, body, headers)
        else:
            await respond(send, 200, body, headers)

    def _damaged(self, fault: Fault | None, answer: Answer) -> bytes:
        if fault is None or not fault.malformed_row:
            return answer.body
        damaged = fault.damage(answer.body)
        if damaged is None:
            return answer.body
        self._exchange.faults.spent(fault)
        return damaged


class Gate:
    """The outermost application: checks the token, serves the protocol's routes, hands the rest on.

    The protocol's routes do not pass through the framework's layers: they need the server's own `send` to
    break connections on demand, and the way is shorter.

    Parameters
    ----------
    endpoints
        Applications of the protocol's paths.
    folders
        Applications of everything below a path.
    rest
        Application for everything else.
    token
        Secret that every request must carry in ``X-MBX-APIKEY``; the others get 401.
    """

    def __init__(
        self,
        endpoints: Mapping[str, ASGIApp],
        folders: Mapping[str, ASGIApp],
        rest: ASGIApp,
        token: str | None,
    ) -> None:
        self._endpoints = endpoints
        self._folders = folders
        self._rest = rest
        self._token = token.encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        if self._token and not hmac.compare_digest(_header(scope, b"x-mbx-apikey"), self._token):
            body = orjson.dumps({"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."})
            await respond(send, 401, body, [])
            return
        endpoint = self._endpoint(scope["path"]) if scope["method"] == "GET" else None
        await (self._rest if endpoint is None else endpoint)(scope, receive, send)

    def _endpoint(self, path: str) -> ASGIApp | None:
        found = self._endpoints.get(path)
        if found is not None:
            return found
        return next((app for prefix, app in self._folders.items() if path.startswith(prefix)), None)


async def respond(
    send: Send, status: int, body: bytes, headers: Headers, content_type: bytes = _JSON
) -> None:
    """Send a whole response."""
    length = (b"content-length", str(len(body)).encode())
    kind = (b"content-type", content_type)
    await send({"type": "http.response.start", "status": status, "headers": [kind, length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def interrupted(fault: Fault, send: Send) -> bool:
    """Do what a fault does before the request is looked at; True where that was all."""
    if fault.latency_ms:
        await asyncio.sleep(fault.latency_ms / 1000)
    if fault.reset:
        await _hang_up(send, hard=True)
        return True
    if fault.status is None:
        return False
    headers = []
    if fault.retry_after is not None:
        headers.append((b"retry-after", str(fault.retry_after).encode()))
    await respond(send, fault.status, fault.error_body(), headers)
    return True


async def truncate(send: Send, body: bytes, headers: Headers, content_type: bytes = _JSON) -> None:
    """Promise the whole body, send half of it and hang up."""
    length = (b"content-length", str(len(body)).encode())
    kind = (b"content-type", content_type)
    await send({"type": "http.response.start", "status": 200, "headers": [kind, length, *headers]})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    await _hang_up(send, hard=False)


async def _hang_up(send: Send, hard: bool) -> None:
    """Close the connection under the response; hard: with a TCP reset.

    ASGI has no word for this, so it takes the transport from uvicorn's response cycle, the owner of `send`.
    """
    transport: Any = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise RuntimeError("this fault needs the uvicorn server")
    if hard:
        with contextlib.suppress(OSError, AttributeError):
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    else:
        transport.close()
    cycle = send.__self__  # type: ignore[attr-defined]
    for _ in range(100):
        if cycle.disconnected:
            break
        await asyncio.sleep(0.005)


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _microseconds(scope: Scope) -> bool:
    return _header(scope, b"x-mbx-time-unit").upper() == b"MICROSECOND"


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else "unknown"


def _weight_headers(verdict: Verdict) -> Headers:
    used = str(verdict.used_weight).encode()
    return [(b"x-mbx-used-weight", used), (b"x-mbx-used-weight-1m", used)]


def _refusal(verdict: Verdict, policy: LimitPolicy) -> bytes:
    if verdict.status == 418:
        message = (
            f"Way too much request weight used; IP banned until {int(verdict.banned_until * 1000)}. "
            "Please use WebSocket Streams for live updates to avoid bans."
        )
    else:
        over_weight = policy.weight_per_minute and verdict.used_weight > policy.weight_per_minute
        budget = (
            f"request weight used; current limit is {policy.weight_per_minute} request weight per 1 MINUTE"
            if over_weight
            else f"requests; current limit is {policy.raw_per_5m} requests per 5 MINUTE"
        )
        lead = "Too much" if over_weight else "Too many"
        message = f"{lead} {budget}. Please use WebSocket Streams for live updates to avoid polling the API."
    return orjson.dumps({"code": -1003, "msg": message})
