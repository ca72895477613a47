"""Start the built-in exchange as a process of its own, wait until it answers, and stop it again."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import orjson

from market.exchange.source import ExchangeSetupError
from market.loopback import DIRECT

_LISTENING: Final = "listening on "
_TOKEN_VARIABLE: Final = "KLINECAST_EXCHANGE_TOKEN"  # noqa: S105 - the variable's name, not a secret


class RunningExchange:
    """An exchange in a subprocess; a context manager that stops it at the end.

    Attributes
    ----------
    url
        Base URL, such as ``http://127.0.0.1:40123``.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: IO[bytes], token: str | None) -> None:
        self.url = url
        self._process = process
        self._log = log
        self._token = token

    def __enter__(self) -> RunningExchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the exchange."""
        return self._process.pid

    def stop(self, timeout_s: float = 5.0) -> int:
        """Stop the exchange and return its exit code; more than once does no harm."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._close_streams()
        return self._process.returncode

    def leave(self) -> None:
        """Let the exchange go on without this process; one that was started with `while_locked` ends by itself."""
        self._close_streams()
        threading.Thread(target=self._process.wait, daemon=True).start()  # no zombie is left of it

    def _close_streams(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()

    def call(self, method: str, path: str, body: Any = None, timeout_s: float = 60.0) -> Any:
        """Call a route and return its JSON answer.

        Raises
        ------
        ExchangeSetupError
            If the exchange answers with an error status or not at all.
        """
        try:
            return _call(self.url + path, method, body, self._token, timeout_s)
        except urllib.error.HTTPError as error:
            what = f"{method} {path} was answered with {error.code}: {error.read().decode(errors='replace')}"
            raise ExchangeSetupError(what, where=self.url, remedy="see docs/exchange.md") from None
        except OSError as error:
            what = f"{method} {path} was not answered: {error}"
            raise ExchangeSetupError(
                what, where=self.url, remedy="see whether the exchange still runs"
            ) from None

    def info(self) -> dict[str, Any]:
        """Return GET /klinecast/v1/info: kind, symbols, clock, what has been served."""
        return dict(self.call("GET", "/klinecast/v1/info"))

    def set_clock(self, now_ms: int | None = None, speed: float | None = None) -> int:
        """Step the clock forward and/or change its speed; returns the exchange's time in ms."""
        wish = {"now_ms": now_ms, "speed": speed}
        given = {name: value for name, value in wish.items() if value is not None}
        return int(self.call("POST", "/klinecast/v1/clock", given)["now_ms"])

    def add_fault(self, **fault: Any) -> None:
        """Ask for a fault; the fields are those of `market.exchange.faults.Fault`."""
        self.call("POST", "/klinecast/v1/faults", fault)

    def clear_faults(self) -> None:
        """Forget all faults that have not happened yet."""
        self.call("DELETE", "/klinecast/v1/faults")

    def set_limits(self, **limits: float) -> None:
        """Change the limits (fields of `market.exchange.limits.LimitPolicy`) and forget all use."""
        self.call("POST", "/klinecast/v1/limits", limits)

    def reset_counters(self) -> None:
        """Start the counters of `info` anew."""
        self.call("DELETE", "/klinecast/v1/counters")


def start_exchange(
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    symbols: int | None = None,
    seed: int | None = None,
    replay: Path | str | None = None,
    now: str | int | None = None,
    speed: float = 1.0,
    weight_limit: int | None = None,
    pages_mb: int | None = None,
    while_locked: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> RunningExchange:
    """Start ``python -m market.exchange`` and wait until it answers.

    Parameters
    ----------
    port, host, symbols, seed, replay, now, speed, weight_limit, pages_mb
        The command line's options; None leaves the default. Port 0 takes a free one.
    while_locked
        A file: the exchange ends when no process holds a shared ``flock`` on it any more, whatever becomes of this
        process. By default it ends with this process.
    environment
        Variables for the process, on top of this process's own.
    timeout_s
        How long to wait for it.

    Raises
    ------
    ExchangeSetupError
        If it stops or stays silent; its own message is part of the error.
    """
    command = [sys.executable, "-m", "market.exchange"]
    command.append("--until-stdin-closes" if while_locked is None else f"--while-locked={while_locked}")
    options = {
        "port": port,
        "host": host,
        "symbols": symbols,
        "seed": seed,
        "replay": replay,
        "now": now,
        "speed": speed,
        "weight-limit": weight_limit,
        "pages-mb": pages_mb,
    }
    command += [f"--{name}={value}" for name, value in options.items() if value is not None]
    variables = {**os.environ, **(environment or {})}
    log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process does
    process = subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        bufsize=0,
        start_new_session=True,  # Ctrl-C is for its launcher, who stops it when what it serves has ended
    )
    token = variables.get(_TOKEN_VARIABLE) or None
    running = RunningExchange(process, "", log, token)
    deadline = time.monotonic() + timeout_s
    try:
        running.url = _read_address(process, log, deadline)
        _wait_for_answer(running.url, token, process, log, deadline)
    except BaseException:
        running.stop()
        raise
    return running


def _read_address(process: subprocess.Popen[bytes], log: IO[bytes], deadline: float) -> str:
    """Read the process's output up to the line with its address."""
    if process.stdout is None:
        raise AssertionError("started with a pipe")
    text = b""
    while True:
        left = deadline - time.monotonic()
        readable, _, _ = select.select([process.stdout], [], [], max(left, 0.0))
        chunk = os.read(process.stdout.fileno(), 65_536) if readable else b""
        if not chunk:
            raise _failure(process, log)
        text += chunk
        for line in text.split(b"\n")[:-1]:
            _, found, address = line.decode().partition(_LISTENING)
            if found:
                return address.strip()


def _wait_for_answer(
    url: str, token: str | None, process: subprocess.Popen[bytes], log: IO[bytes], deadline: float
) -> None:
    while True:
        try:
            _call(url + "/klinecast/v1/info", "GET", None, token, 5.0)
            return
        except urllib.error.HTTPError as error:
            raise ExchangeSetupError(
                f"it answers with {error.code}", where=url, remedy=f"check {_TOKEN_VARIABLE}"
            ) from None
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise _failure(process, log) from None
            time.sleep(0.02)


def _failure(process: subprocess.Popen[bytes], log: IO[bytes]) -> ExchangeSetupError:
    try:
        code: int | None = process.wait(2.0)
    except subprocess.TimeoutExpired:
        code = None
    log.seek(0)
    said = log.read().decode(errors="replace").strip()[-2000:] or "it said nothing"
    own = re.fullmatch(r"klinecast exchange: (.*)\n  where: (.*)\n  do: (.*)", said)
    if own is not None:
        return ExchangeSetupError(own[1], where=own[2], remedy=own[3])
    state = "does not answer" if code is None else f"stopped with exit code {code}"
    return ExchangeSetupError(
        f"the built-in exchange {state}: {said}",
        where=f"process {process.pid}",
        remedy="start python -m market.exchange by hand to see more",
    )


def _call(url: str, method: str, body: Any, token: str | None, timeout_s: float) -> Any:
    headers = {"X-MBX-APIKEY": token} if token else {}
    data = None if body is None else orjson.dumps(body)
    request = urllib.request.Request(url, data=data, method=method, headers=headers)  # noqa: S310 - own address
    with DIRECT.open(request, timeout=timeout_s) as answer:
        return orjson.loads(answer.read())
