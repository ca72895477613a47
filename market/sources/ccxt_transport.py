"""Questions to an exchange through ccxt: counted, tried again, and held back where it has asked for that."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from market import client_errors as errors
from market.rate_limit import budget_of
from market.sources import ccxt_errors
from market.sources.ccxt_names import SCHEME
from market.transport import Traffic

T = TypeVar("T")
logger = logging.getLogger(__name__)

_BACKOFF_BASE_S, _BACKOFF_CAP_S = 0.25, 10.0
_TOO_MANY_BASE_S: Final = 1.0


class CcxtTransport:
    """One exchange object of ccxt, and how it is asked; parameters as `market.sources.ccxt_source.CcxtSource`."""

    def __init__(
        self,
        exchange_id: str,
        *,
        concurrency: int,
        timeout_s: float,
        attempts: int,
        patience_s: float,
        prepare: Callable[[Any], None] | None,
    ) -> None:
        self.name = f"{SCHEME}{exchange_id}"
        self.traffic = Traffic()
        self._id = exchange_id
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._patience_s = patience_s
        self._prepare = prepare
        self._exchange: Any = None
        self._budget = budget_of(self.name)
        self._slots = asyncio.Semaphore(concurrency)

    @property
    def exchange(self) -> Any:
        """The exchange object of ccxt."""
        if self._exchange is None:
            raise RuntimeError("use CcxtSource within `async with`")
        return self._exchange

    def open(self) -> None:
        """Load ccxt and make its exchange object."""
        import ccxt.async_support as library

        options = {
            "enableRateLimit": True,
            "timeout": int(self._timeout_s * 1_000),
            "aiohttp_trust_env": True,  # a proxy of the environment, as every client of ours
        }
        self._exchange = getattr(library, self._id)(options)
        if self._prepare is not None:
            self._prepare(self._exchange)
        self._count_requests()

    async def close(self) -> None:
        """Close its connections."""
        await self._exchange.close()

    async def ask(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Call ccxt until there is an answer or no hope of one."""
        _ = self.exchange  # which says so if it is not open
        for attempt in range(1, self._attempts + 1):
            try:
                async with self._slots:
                    found = await call()
                self.traffic.trouble = ""
                return found
            except errors.ExchangeError:
                raise
            except Exception as error:
                self._note_pause(error, attempt)
                if not ccxt_errors.worth_another_try(error) or attempt == self._attempts:
                    raise ccxt_errors.explained(error, self.name, what, attempt) from error
                self.traffic.retries += 1
                self._tell_trouble(error, attempt)
                if not ccxt_errors.says_too_many(error):
                    wait = min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**attempt)
                    await asyncio.sleep(random.uniform(0.0, wait))  # noqa: S311 - no secret
        raise AssertionError("unreachable: the last attempt raises")

    def _tell_trouble(self, error: Exception, attempt: int) -> None:
        """Say what is wrong once a second attempt has failed."""
        logger.debug("%s attempt %d: %s", self.name, attempt, error)
        if attempt >= 2:
            again = f"trying again ({attempt + 1} of {self._attempts})"
            self.traffic.trouble = f"exchange: {type(error).__name__}, {again}"
            logger.info("%s: %s", self.name, self.traffic.trouble)

    def _note_pause(self, error: Exception, attempt: int) -> None:
        """Hold back every request to this exchange for as long as it has asked for."""
        if ccxt_errors.says_too_many(error):
            told = ccxt_errors.retry_after_s(self.exchange.last_response_headers)
            self._budget.pause(_TOO_MANY_BASE_S * 2**attempt if told is None else told)

    def _count_requests(self) -> None:
        """Let every HTTP request that ccxt sends be counted, and wait where the exchange has forbidden any."""
        send = self._exchange.fetch

        async def counted(*arguments: Any, **named: Any) -> Any:
            await self._sit_out()
            started = time.perf_counter()
            self.traffic.requests += 1
            try:
                return await send(*arguments, **named)
            finally:
                self.traffic.waited_s += time.perf_counter() - started

        self._exchange.fetch = counted

    async def _sit_out(self) -> None:
        while (pause := self._budget.paused_s()) > 0:
            if pause > self._patience_s:
                raise errors.RateLimitedError(
                    f"the exchange forbids requests for another {math.ceil(pause)} s",
                    where=self.name,
                    remedy="run again after that; what has been received so far is stored",
                )
            await asyncio.sleep(min(pause, 1.0))
