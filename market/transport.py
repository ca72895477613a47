"""Get one answer from an exchange: budget, retries, and a clear error where there is none to be had."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import aiohttp

from market import client_errors as errors
from market.holding import HeldBack
from market.rate_limit import Priority, RequestBudget
from market.rate_state import LONGEST_BAN_S
from market.refusals import message_of, not_an_exchange, refusal_of
from market.wire import NotJsonError, ShapeError

T = TypeVar("T")
logger = logging.getLogger(__name__)

_BACKOFF_BASE_S = 0.25
_BACKOFF_CAP_S = 10.0
_TOO_MANY = frozenset({418, 429})
_MOST_BYTES = 64 << 20
_TRANSIENT = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, asyncio.TimeoutError, OSError)


Refusal = Callable[[int, Mapping[str, str], bytes, str], errors.ExchangeError]
"""Turns status, headers, body and the place of an answer into an error."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A parsed answer and what it cost: requests sent (retries included) and their weight."""

    value: T
    requests: int
    weight: int


@dataclass(slots=True)
class Traffic:
    """Counters of one client, for reports; `waited_s` is time between asking and answer, summed.

    `trouble` says what is wrong while a request has failed more than once and is tried again, else it is empty.
    """

    requests: int = 0
    weight: int = 0
    retries: int = 0
    bytes_received: int = 0
    waited_s: float = 0.0
    trouble: str = ""


class _Retry(Exception):  # noqa: N818 - a signal within this module, not an error
    """An attempt failed in a way that another may not."""

    def __init__(self, reason: str, *, unreachable: bool = False, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unreachable = unreachable
        self.after_s = after_s


class Transport:
    """Requests to one host over one session.

    Parameters
    ----------
    base_url : str
        Scheme, host and port.
    budget : RequestBudget
        Shared by everything that talks to the host; the session's connector should be a `HoldingConnector`.
    attempts : int
        Tries per request, the first included.
    patience_s : float
        Longest Retry-After to sit out; a longer one is an error at once.
    host : str
        What the host is, for messages.
    most_bytes : int
        A longer body is not read: nothing of the protocol is that long.
    refusal : callable
        Makes the error of an answer that is neither 200 nor worth another try.
    priority : "sweep" or "backfill"
        Who waits first when weight gets scarce.
    timeout_s : float, optional
        Longest time for a whole answer. (aiohttp's own clock for this costs a third of a request.)
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        *,
        budget: RequestBudget,
        concurrency: int,
        attempts: int,
        patience_s: float,
        host: str = "exchange",
        most_bytes: int = _MOST_BYTES,
        refusal: Refusal | None = None,
        priority: Priority = "sweep",
        timeout_s: float | None = None,
    ) -> None:
        self.traffic = Traffic()
        self.base_url = base_url
        self._session = session
        self._budget = budget
        self._slots = asyncio.Semaphore(concurrency)
        self._attempts = attempts
        self._patience_s = patience_s
        self._host = host
        self._most_bytes = most_bytes
        self._refusal = refusal or refusal_of
        self._priority = priority
        self._timeout_s = timeout_s

    async def get(
        self, path: str, params: Mapping[str, str], weight: int, parse: Callable[[bytes], T]
    ) -> Answer[T]:
        """Ask for `path` until there is an answer that `parse` can read, or no hope of one.

        `parse` raises `NotJsonError` for a body that was cut off (tried again) and `ShapeError` for one that
        is not of this protocol (not tried again).

        Raises
        ------
        ExchangeError
            The subclass says what is wrong; the message names host, path and attempts.
        """
        failures: list[_Retry] = []
        for attempt in range(1, self._attempts + 1):
            try:
                value = await self._attempt(path, params, weight, parse)
            except _Retry as failure:
                failures.append(failure)
                self.traffic.retries += 1
                logger.debug("%s%s attempt %d: %s", self.base_url, path, attempt, failure.reason)
                self._tell_trouble(failure, attempt)
                if failure.after_s is None and attempt < self._attempts:
                    await asyncio.sleep(_full_jitter(attempt))
                continue
            self.traffic.trouble = ""
            return Answer(value, attempt, attempt * weight)
        raise self._given_up(path, failures)

    def _tell_trouble(self, failure: _Retry, attempt: int) -> None:
        """Say what is wrong once a second attempt has failed, since the next ones take up to a minute."""
        if 2 <= attempt < self._attempts:
            verb = " answers" if failure.reason.startswith("HTTP") else ":"
            again = f"trying again ({attempt + 1} of {self._attempts})"
            self.traffic.trouble = f"{self._host}{verb} {failure.reason}, {again}"
            logger.info("%s: %s", self.base_url, self.traffic.trouble)

    async def _attempt(
        self, path: str, params: Mapping[str, str], weight: int, parse: Callable[[bytes], T]
    ) -> T:
        where = f"{self.base_url}{path} {_shown(params)}".rstrip()
        async with self._slots:
            sent = None
            while sent is None:
                at = await self._budget.acquire(
                    weight, self._priority, lambda: self._refuse_long_pause(where)
                )
                sent = await self._send(path, params, weight, at)
            status, headers, body = sent
        if status == 200:
            return _read(body, headers, parse, where)
        self._judge(status, headers, body, where)
        raise AssertionError("unreachable: _judge always raises")

    async def _send(
        self, path: str, params: Mapping[str, str], weight: int, acquired_at: float
    ) -> tuple[int, Mapping[str, str], bytes] | None:
        """Return status, headers and body; None if the host forbade requests before this one was written."""
        used: int | None = None
        started = time.perf_counter()
        held_back = False
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.get(f"{self.base_url}{path}", params=params, allow_redirects=False) as response,
            ):
                used = _used_weight(response.headers)
                if response.status in _TOO_MANY:  # before anything else may go out
                    self._budget.pause(_retry_after_s(response.headers))
                body = await self._body(response)
                self.traffic.bytes_received += len(body)
                return response.status, response.headers, body
        except HeldBack:
            held_back = True
            return None
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or _reason(error)
            raise _Retry(f"no connection: {reason}", unreachable=True) from error
        except _TRANSIENT as error:
            raise _Retry(_reason(error)) from error
        finally:
            self._account(weight, used, acquired_at, started, sent=not held_back)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        told = response.content_length
        if told is not None and told <= self._most_bytes and "Content-Encoding" not in response.headers:
            return await response.read()
        parts, length = [], 0
        async for part in response.content.iter_any():
            length += len(part)
            if length > self._most_bytes:
                raise errors.NotAnExchangeError(
                    f"the answer is longer than {self._most_bytes:,} bytes: the {self._host} sends nothing so long",
                    where=str(response.url),
                    remedy=f"check the {self._host}'s URL, and for a proxy or login page between",
                )
            parts.append(part)
        return b"".join(parts)

    def _account(self, weight: int, used: int | None, acquired_at: float, started: float, sent: bool) -> None:
        if not sent:
            self._budget.release(weight)
            return
        self._budget.settle(weight, used, acquired_at)
        self.traffic.requests += 1
        self.traffic.weight += weight
        self.traffic.waited_s += time.perf_counter() - started

    def _refuse_long_pause(self, where: str) -> None:
        paused_s = self._budget.paused_s()
        if paused_s > self._patience_s:
            raise errors.RateLimitedError(
                f"the {self._host} forbids requests for another {math.ceil(paused_s)} s",
                where=where,
                remedy="run again after that; what has been received so far is stored",
            )

    def _judge(self, status: int, headers: Mapping[str, str], body: bytes, where: str) -> None:
        """Raise what an answer other than 200 means."""
        if status in _TOO_MANY:
            self._obey_retry_after(status, headers, body, where)
        if status >= 500:
            raise _Retry(f"HTTP {status}")
        raise self._refusal(status, headers, body, where)

    def _obey_retry_after(self, status: int, headers: Mapping[str, str], body: bytes, where: str) -> None:
        seconds = _retry_after_s(headers)
        if seconds <= self._patience_s:
            raise _Retry(f"HTTP {status}, Retry-After {seconds:g} s", after_s=seconds)
        kind = errors.BannedError if status == 418 else errors.RateLimitedError
        said = message_of(body) or "too many requests"
        raise kind(
            f"HTTP {status}: {said}; the {self._host} forbids requests for {seconds:g} s",
            where=where,
            remedy="run again after that, and see whether something else on this address uses up the limit; "
            "what has been received so far is stored",
        )

    def _given_up(self, path: str, failures: list[_Retry]) -> errors.ExchangeError:
        last = failures[-1]
        seen = ", ".join(dict.fromkeys(failure.reason for failure in failures))
        where = f"{self.base_url}{path}"
        if last.unreachable:
            return errors.UnreachableError(
                f"cannot reach the {self._host} after {len(failures)} attempts: {last.reason}",
                where=where,
                remedy=f"check the {self._host}'s URL, and that the network or the built-in exchange is up",
            )
        if last.after_s is not None:
            return errors.RateLimitedError(
                f"still refused after {len(failures)} attempts: {seen}",
                where=where,
                remedy="see what else uses up the limit of this address, and run again later",
            )
        return errors.RetriesExhaustedError(
            f"no usable answer after {len(failures)} attempts: {seen}",
            where=where,
            remedy="run again later: what is missing is asked for again, what is stored stays",
        )


def _read(body: bytes, headers: Mapping[str, str], parse: Callable[[bytes], T], where: str) -> T:
    try:
        return parse(body)
    except NotJsonError as error:
        if not body or body.lstrip()[:1] in (b"[", b"{"):
            raise _Retry("the answer was cut off") from error
        raise not_an_exchange(200, headers, body, where) from error
    except ShapeError as error:
        raise errors.NotAnExchangeError(
            f"the answer is not what the protocol has here: {error}",
            where=where,
            remedy="check that the URL is the base URL of a host that speaks this protocol",
        ) from error


def _used_weight(headers: Mapping[str, str]) -> int | None:
    text = headers.get("X-MBX-USED-WEIGHT-1M", "")
    return int(text) if text.isdecimal() else None


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Return what the exchange asks for; the protocol always says, so silence or nonsense is taken as a minute."""
    try:
        seconds = float(headers.get("Retry-After", "60"))
    except ValueError:
        seconds = math.nan
    return min(max(0.0, seconds), LONGEST_BAN_S) if math.isfinite(seconds) else 60.0


def _full_jitter(attempt: int) -> float:
    return random.uniform(0.0, min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**attempt))  # noqa: S311 - no secret


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "timed out"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer was cut off"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _shown(params: Mapping[str, str]) -> str:
    text = " ".join(f"{key}={value}" for key, value in params.items())
    return text if len(text) <= 200 else f"{text[:200]}..."
