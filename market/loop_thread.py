"""Coroutines from ordinary code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def run_sync(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine to its end from ordinary code, also within a running event loop (a notebook).

    The loop runs in a thread of its own. An interrupt, whatever exception its handler raises (Dagster's is neither
    KeyboardInterrupt nor an Exception), so reaches the caller, who cancels the work and waits until it has stopped;
    within the loop, asyncio would log such an exception and go on.
    """
    loop = asyncio.new_event_loop()
    task: asyncio.Task[T] | None = None
    outcome: list[T] = []
    failure: list[BaseException] = []

    async def main() -> T:
        return await work()

    def in_thread() -> None:
        nonlocal task
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                task = loop.create_task(main())
                outcome.append(runner.run(_result(task)))
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    ended = threading.Event()  # an interrupted Thread.join takes the thread for ended (Python 3.11)
    threading.Thread(target=in_thread, name="ingest").start()
    try:
        ended.wait()
    except BaseException:
        if task is not None and not ended.is_set():
            loop.call_soon_threadsafe(task.cancel)
        ended.wait()
        raise
    if failure:
        raise failure[0]
    return outcome[0]


async def _result(task: asyncio.Task[T]) -> T:
    return await task
