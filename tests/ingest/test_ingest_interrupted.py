"""An interrupt of the ordinary code that waits for an ingest stops the ingest, whatever its handler raises."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from market.ingest import run_sync


class FrameworkInterrupt(BaseException):
    """As orchestrators raise from their signal handlers: no KeyboardInterrupt, no Exception."""


def test_an_interrupt_cancels_the_work_and_reaches_the_caller() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            while True:  # busy in the loop's own callbacks, where asyncio swallows what a handler raises
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    def handler(*_: object) -> None:
        raise FrameworkInterrupt

    former = signal.signal(signal.SIGINT, handler)
    sender = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    sender.start()
    started = time.monotonic()
    try:
        with pytest.raises(FrameworkInterrupt):
            run_sync(work)
    finally:
        sender.join()
        signal.signal(signal.SIGINT, former)
    assert seen == ["cancelled"]
    assert time.monotonic() - started < 60
