"""Command line of the built-in exchange: ``python -m market.exchange`` and ``klinecast exchange``."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import uvicorn

from market.errors import MarketError
from market.exchange.clock import ExchangeClock, format_time, parse_time
from market.exchange.exchange import PAGES_MB, Exchange
from market.exchange.futures import WEIGHT_PER_MINUTE as FUTURES_WEIGHT
from market.exchange.futures import limit_policy
from market.exchange.limits import LimitPolicy, WeightLimiter
from market.exchange.listing import GENESIS_MS, MAX_SYMBOLS
from market.exchange.replay import ReplayMarket
from market.exchange.server import build_app
from market.exchange.simulate import SimulatedMarket
from market.exchange.source import ExchangeSetupError, ListenError, Market

TOKEN_VARIABLE: Final = "KLINECAST_EXCHANGE_TOKEN"  # noqa: S105 - the variable's name, not a secret
DEFAULT_PORT: Final = 8642
DEFAULT_SYMBOLS: Final = 20
DEFAULT_SEED: Final = 7
LISTENING: Final = "listening on "  # launch.py reads the line that begins so
_FAILED: Final = 1
_WRONG: Final = 2  # the command line, or a value on it
# Options of mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 32 << 20


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ExchangeSetupError(message, where="the command line", remedy=f"see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="klinecast exchange",
        description="Serve a simulated or a recorded market over the exchange's REST protocol.",
    )
    add = parser.add_argument
    add("--port", type=int, default=DEFAULT_PORT, help="TCP port; 0 takes a free one (default %(default)s)")
    add(
        "--host",
        default="127.0.0.1",
        help=f"address to bind; other than loopback needs {TOKEN_VARIABLE} (default %(default)s)",
    )
    add("--symbols", type=int, help=f"how many simulated symbols (default {DEFAULT_SYMBOLS})")
    add("--seed", type=int, help=f"seed of the simulated market (default {DEFAULT_SEED})")
    add("--replay", type=Path, metavar="DIR", help="serve <SYMBOL>_<interval>.parquet files from a folder")
    add("--now", metavar="TIME", help="its clock at start, ISO 8601 or ms (default: the real time; "
        "in a replay the end of the data)")  # fmt: skip
    add(
        "--speed",
        type=float,
        default=1.0,
        help="how fast its clock runs; 0 stands still (default %(default)s)",
    )
    add("--weight-limit", type=int, metavar="N", help="request weight per minute and address; 0 is no limit "
        f"(default {LimitPolicy.weight_per_minute}, futures {FUTURES_WEIGHT})")  # fmt: skip
    add("--pages-mb", type=int, default=PAGES_MB, metavar="N",
        help="memory for rendered pages, so that asking again is answered at once (default %(default)s)")  # fmt: skip
    add("--until-stdin-closes", action="store_true", help="stop when standard input ends (for launchers)")
    add("--while-locked", type=Path, metavar="FILE",
        help="stop when no process holds a shared flock on FILE any more (for launchers)")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the exchange until SIGINT or SIGTERM; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return _run(_parser().parse_args(argv), os.environ)
    except MarketError as error:
        sys.stderr.write(f"klinecast exchange: {error}\n")
        return _FAILED if isinstance(error, ListenError) else _WRONG


def _run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    token = environment.get(TOKEN_VARIABLE) or None
    _check_host(options.host, token)
    _keep_freed_memory()
    market, end = _open_market(options)
    now = end if options.now is None else parse_time(options.now)
    clock = ExchangeClock(now, options.speed, stops_at=end)
    if isinstance(market, SimulatedMarket) and clock.now() < GENESIS_MS:
        raise ExchangeSetupError(
            f"the simulated market begins at {format_time(GENESIS_MS)}, the clock stands before it",
            where=f"--now {options.now}",
            remedy="give a later time",
        )
    weight = options.weight_limit
    if weight is not None and weight < 0:
        raise ExchangeSetupError(
            f"weight limit {weight} is not possible",
            where="--weight-limit",
            remedy="0 is no limit",
        )
    exchange = Exchange(market, clock, pages_mb=options.pages_mb)
    if weight is not None:
        spot = LimitPolicy(weight_per_minute=weight, raw_per_5m=61_000 if weight else 0)
        exchange.limiter = WeightLimiter(spot)
        exchange.futures_limiter = WeightLimiter(limit_policy(weight))
    with _listen(options.host, options.port) as listener:
        _announce(exchange, listener, options.host)
        _serve(build_app(exchange, token), listener, _end_of_use(options))
    if options.while_locked is None:  # whoever started it may have gone, and nobody reads
        _say("stopped")
    return 0


def _check_host(host: str, token: str | None) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ExchangeSetupError(
            f"{host!r} is not an address", where="--host", remedy="give an IP address, such as 127.0.0.1"
        ) from None
    if not loopback and token is None:
        raise ExchangeSetupError(
            f"{host} can be reached from other machines, and no token is set",
            where="--host",
            remedy=f"set {TOKEN_VARIABLE} to a secret (sent as X-MBX-APIKEY), or bind to 127.0.0.1",
        )


def _open_market(options: argparse.Namespace) -> tuple[Market, int | None]:
    """Return the market and the end of what is known of it, where its clock starts by default and stops (or None)."""
    if options.replay is not None:
        for name in ("symbols", "seed"):
            if getattr(options, name) is not None:
                raise ExchangeSetupError(
                    f"--{name} is for a simulated market",
                    where="the command line",
                    remedy=f"leave out --{name} or --replay",
                )
        recorded = ReplayMarket(options.replay)
        return recorded, recorded.end_ms
    symbols = DEFAULT_SYMBOLS if options.symbols is None else options.symbols
    if not 1 <= symbols <= MAX_SYMBOLS:
        raise ExchangeSetupError(
            f"{symbols} symbols are not possible", where="--symbols", remedy=f"give 1 to {MAX_SYMBOLS}"
        )
    return SimulatedMarket(symbols, DEFAULT_SEED if options.seed is None else options.seed), None


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise ExchangeSetupError(f"port {port} is not possible", where="--port", remedy="give 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ListenError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            where="--port" if host == "127.0.0.1" else "--host and --port",
            remedy="stop what listens there, or choose another port (0 takes a free one)",
        ) from None
    return listener


def _keep_freed_memory() -> None:
    """Ask the C library to keep freed memory: handing it back and forth costs half the generator's time."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it; elsewhere it is just slower
        library = ctypes.CDLL(None)
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            library.mallopt(option, _KEPT_BYTES)


def _announce(exchange: Exchange, listener: socket.socket, host: str) -> None:
    port = listener.getsockname()[1]
    now = exchange.clock.now()
    facts: dict[str, Any] = exchange.market.describe()
    count = len(exchange.market.instruments(now))
    clock = exchange.clock
    speed = f"running at {clock.speed:g}x" if clock.speed else "standing still"
    speed += " at the end of the recording" if clock.stopped else ""
    _say(f"{exchange.market.kind} market, {count} symbols ({_short(facts)})")
    _say(f"clock {format_time(now)}, {speed}")
    _say(f"{LISTENING}http://{f'[{host}]' if ':' in host else host}:{port}")


def _short(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if isinstance(value, str | int))


def _serve(app: Any, listener: socket.socket, end_of_use: Callable[[], None] | None) -> None:
    """Serve until a signal comes, or until `end_of_use`, which blocks, returns."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=75,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal again once it has stopped: without handlers of our own that would kill us.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    if end_of_use is not None:
        threading.Thread(target=_stop_after, args=(server, end_of_use), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def _stop_after(server: uvicorn.Server, end_of_use: Callable[[], None]) -> None:
    end_of_use()
    server.should_exit = True


def _end_of_use(options: argparse.Namespace) -> Callable[[], None] | None:
    """Return what blocks until nobody needs this exchange any more; None where nothing tells."""
    if options.while_locked is not None:
        users = os.open(options.while_locked, os.O_RDWR | os.O_CREAT, 0o600)
        return lambda: fcntl.flock(
            users, fcntl.LOCK_EX
        )  # kept to the end: who comes now waits, and starts another
    return _end_of_input if options.until_stdin_closes else None


def _end_of_input() -> None:
    # Not sys.stdin: its lock, held by a waiting thread, would abort the interpreter at exit.
    while os.read(0, 4096):
        pass


def _say(line: str) -> None:
    sys.stdout.write(f"klinecast exchange: {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
