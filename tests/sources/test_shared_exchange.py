"""One built-in exchange for all processes of a home: started by the first, ended with the last, whoever that is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assets.source import builtin_info

_USER = """
import sys
from assets.exchange_process import exchange_for
from assets.settings import load_settings

with exchange_for(load_settings()) as url:
    print(url, flush=True)
    sys.stdin.read()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def user(home: Path) -> Iterator[Start]:
    """Start a process that uses the exchange of the home until its standard input ends."""
    started: list[subprocess.Popen[str]] = []

    def start(**settings: str) -> subprocess.Popen[str]:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("KLINECAST_")}
        variables |= {"KLINECAST_HOME": str(home), "KLINECAST_BUILTIN_SYMBOLS": "2"} | settings
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", _USER], env=variables, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _gone(url: str) -> bool:
    deadline = time.monotonic() + 10
    while builtin_info(url) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    return builtin_info(url) is None


def test_neither_of_two_that_come_at_once_is_struck_by_the_end_of_the_other(user: Start) -> None:
    pair = [user(), user()]
    urls = {_url(process) for process in pair}
    assert len(urls) == 1, "the one waited for the other's exchange to be up"
    (url,) = urls
    started_it, other = sorted(pair, key=lambda process: not _children(process.pid))
    assert _children(started_it.pid) and not _children(other.pid)
    started_it.send_signal(signal.SIGKILL)
    started_it.wait()
    time.sleep(0.3)
    assert (builtin_info(url) or {}).get("kind") == "simulated", "it still serves the other one"
    third = user()
    assert _url(third) == url
    other.communicate()
    third.communicate()
    assert _gone(url)
    assert _url(user()) != url, "whoever comes later starts another"


def test_another_market_is_another_exchange(user: Start) -> None:
    first, second = user(), user(KLINECAST_BUILTIN_SYMBOLS="3")
    urls = [_url(first), _url(second)]
    assert [len((builtin_info(url) or {})["symbols"]) for url in urls] == [2, 3]


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
