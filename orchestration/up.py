"""`klinecast up`: everything a user needs on one machine, in one terminal."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from assets.errors import AssetError, GivenValueError
from assets.exchange_process import exchange_for
from assets.settings import Settings, load_settings
from orchestration.instance import prepare_instance
from orchestration.run_origin import WORKSPACE

_START_SECONDS = 300.0
_STOP_SECONDS = {signal.SIGINT: 8.0, signal.SIGTERM: 4.0, signal.SIGKILL: 4.0}
"""How long each of them is waited for: Dagster's code servers take a quarter of a minute to notice the first."""


class PortInUseError(AssetError):
    """Another program listens where the UI should."""


def run_up() -> int:
    """Start the services, say where to look, and keep them until Ctrl-C; returns the exit code."""
    console = Console(stderr=True)
    settings = load_settings()
    _refuse_busy_port(settings.ui_port)
    folder = prepare_instance(settings)
    with ExitStack() as stack:
        stack.enter_context(_only_one(folder / "up.lock"))
        stop = _on_signals(stack)
        exchange = stack.enter_context(exchange_for(settings))
        dagster = stack.enter_context(_dagster(settings))
        console.print("starting the Dagster UI and its daemon; that takes up to a minute or two ...")
        if not _wait_until_listening(settings.ui_port, dagster, stop):
            return _ended(dagster, stop, console)
        _say_where(console, settings, exchange)
        while dagster.poll() is None and not stop.wait(0.5):
            pass
        return _ended(dagster, stop, console)


def become_service(name: str) -> None:
    """Replace this process by one of Dagster's services.

    Raises
    ------
    GivenValueError
        For a name other than webserver and daemon.
    """
    settings = load_settings()
    commands = {
        "webserver": ["dagster_webserver", "--host", "127.0.0.1", "--port", str(settings.ui_port)],
        "daemon": ["dagster._daemon", "run"],
    }
    if name not in commands:
        raise GivenValueError(
            f"there is no service {name!r}", where="klinecast service", remedy="use webserver or daemon"
        )
    prepare_instance(settings)
    module, *arguments = commands[name]
    os.chdir(WORKSPACE.parent)
    os.execv(  # noqa: S606 - an argument list, no shell
        sys.executable, [sys.executable, "-m", module, *arguments, "--workspace", str(WORKSPACE)]
    )


class AlreadyUpError(AssetError):
    """Another `klinecast up` keeps this home."""


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold this home's lock: two daemons on the same records would fire every schedule twice."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyUpError(
                "another `klinecast up` runs for this home",
                where=f"KLINECAST_HOME = {path.parent.parent}",
                remedy="use that one, or stop it first",
            ) from None
        yield


def _say_where(console: Console, settings: Settings, exchange: str) -> None:
    console.print(
        f"\n  Dagster UI   http://127.0.0.1:{settings.ui_port}\n"
        f"  exchange     {exchange}{'' if settings.exchange_url else '  (built in)'}\n"
        f"  state        {settings.home}\n\n"
        "  In the UI: Jobs > ingest > Launchpad > Launch run; switch schedules on under Automation.\n"
        "  Ctrl-C stops everything.\n",
        highlight=False,
    )


def _dagster(settings: Settings) -> _Service:
    log = settings.home / "dagster" / "services.log"
    command = [
        *(sys.executable, "-m", "dagster", "dev", "--workspace", str(WORKSPACE)),
        *("--host", "127.0.0.1", "--port", str(settings.ui_port)),
    ]
    return _Service(command, log)


class _Service:
    """A child process in a process group of its own, so that Ctrl-C reaches it once, from us."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command, self.log = command, log

    def __enter__(self) -> _Service:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=WORKSPACE.parent,
            )
        return self

    def __exit__(self, *_: object) -> None:
        for number, patience in _STOP_SECONDS.items():
            if self._process.poll() is not None:
                break
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        _end_group(self._process.pid)

    def poll(self) -> int | None:
        """Return the exit code once it has ended."""
        return self._process.poll()


def _end_group(group: int) -> None:
    """End what a service has left of its group, such as a code server that would wait for its callers."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, number)
            deadline = time.monotonic() + _STOP_SECONDS[number]
            while time.monotonic() < deadline:
                os.killpg(group, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return


def _on_signals(stack: ExitStack) -> threading.Event:
    """Turn Ctrl-C and a polite kill into an event; the former handlers come back with the stack."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        former = signal.signal(number, lambda *_: stop.set())
        stack.callback(signal.signal, number, former)
    return stop


def _wait_until_listening(port: int, service: _Service, stop: threading.Event) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and service.poll() is None and not stop.is_set():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        stop.wait(0.3)
    return False


def _refuse_busy_port(port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise PortInUseError(
                f"port {port} is in use by another program",
                where="KLINECAST_UI_PORT",
                remedy="stop the other program (another `klinecast up`?), or set KLINECAST_UI_PORT",
            )


def _ended(service: _Service, stop: threading.Event, console: Console) -> int:
    if stop.is_set():
        console.print("stopping, which takes a few seconds ...")
        return 0
    lines = service.log.read_text(errors="replace").splitlines()[-15:]
    console.print("\n".join(lines), markup=False, highlight=False)
    console.print(
        f"klinecast: the Dagster UI did not stay up\n  where: {service.log}\n  do: read the lines above"
    )
    return 1
