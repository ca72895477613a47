"""Faults on demand: what a real exchange does to its clients now and then, for the tests of those clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import orjson

from market.exchange.archive_files import ARCHIVE_FAULTS
from market.exchange.source import ExchangeSetupError

MUTATIONS: Final = (
    "high_below_low",
    "not_a_number",
    "negative_volume",
    "missing_field",
    "taker_above_volume",
)
_DEFAULT_BODIES: Final = {
    403: b"<html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1></body></html>",
    418: b'{"code":-1003,"msg":"Way too much request weight used; IP banned until 4102444800000. '
    b'Please use WebSocket Streams for live updates to avoid bans."}',
    429: b'{"code":-1003,"msg":"Too many requests; please use the websocket for live updates."}',
    451: b'{"code":0,"msg":"Service unavailable from a restricted location according to '
    b"'b. Eligibility' in "
    b"https://www.binance.com/en/terms. Please contact customer service if you believe you received this "
    b'message in error."}',
}


@dataclass
class Fault:
    """One fault and the requests that it befalls.

    Parameters
    ----------
    path, symbol, interval
        Which requests: path prefix, and query values where given.
    count
        How many requests; None: every one until the faults are cleared.
    latency_ms
        Wait before anything else happens.
    status, body, retry_after
        Answer with this HTTP status instead (body and Retry-After as given, else the usual ones).
    reset
        Break the connection without an answer (TCP RST).
    truncate
        Promise the whole body, send half of it and hang up.
    malformed_row, open_time, mutation
        Damage one row of a klines page: that with ``open_time``, else the first; one of `MUTATIONS`.
    archive
        What is wrong with an archive file, one of `ARCHIVE_FAULTS`: its checksum is another one, its zip was cut off
        before the checksum was made, or it was rewritten. Such a fault has the path ``/data/`` unless one is given.
    """

    path: str = "/api/v3/"
    symbol: str | None = None
    interval: str | None = None
    count: int | None = 1
    latency_ms: float = 0.0
    status: int | None = None
    body: str | None = None
    retry_after: int | None = None
    reset: bool = False
    truncate: bool = False
    malformed_row: bool = False
    open_time: int | None = None
    mutation: str = "high_below_low"
    archive: str | None = None

    def befalls(self, path: str, query: Mapping[str, str]) -> bool:
        """Tell whether a request is one of those meant."""
        return (
            path.startswith(self.path)
            and self.symbol in (None, query.get("symbol"))
            and self.interval in (None, query.get("interval"))
        )

    def error_body(self) -> bytes:
        """Return the body that goes with ``status``."""
        if self.body is not None:
            return self.body.encode()
        return _DEFAULT_BODIES.get(self.status or 0, b'{"code":-1000,"msg":"An unknown error occurred."}')

    def damage(self, page: bytes) -> bytes | None:
        """Return the page with one row damaged, or None where the row meant is not on it."""
        rows = orjson.loads(page)
        if not isinstance(rows, list) or not rows:
            return None
        for row in rows:
            if self.open_time is None or row[0] == self.open_time:
                _damage_row(row, self.mutation)
                return orjson.dumps(rows)
        return None


def _damage_row(row: list[Any], mutation: str) -> None:
    if mutation == "high_below_low":
        row[2], row[3] = str(float(row[3]) * 0.9), row[2]
    elif mutation == "not_a_number":
        row[4] = "NaN"
    elif mutation == "negative_volume":
        row[5] = "-1.00000000"
    elif mutation == "taker_above_volume":
        row[9] = str(float(row[5]) * 2 + 1)
    else:
        row.pop()


class FaultPlan:
    """The faults still to come, in the order in which they were asked for."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def add(self, wish: Any) -> Fault:
        """Add a fault described as a JSON object.

        Raises
        ------
        ExchangeSetupError
            If a field is unknown or its value does not fit.
        """
        fault = _parse(wish)
        self.faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget all faults."""
        self.faults.clear()

    def next_for(self, path: str, query: Mapping[str, str]) -> Fault | None:
        """Return the first fault that befalls a request, and count it down.

        A fault that damages a row is counted by `spent`, once the row was found on a page.
        """
        for fault in self.faults:
            if fault.befalls(path, query):
                if not fault.malformed_row:
                    self.spent(fault)
                return fault
        return None

    def spent(self, fault: Fault) -> None:
        """Count one use of a fault; the last one removes it."""
        if fault.count is not None:
            fault.count -= 1
            if fault.count <= 0 and fault in self.faults:
                self.faults.remove(fault)


_ALLOWED: Final[dict[str, tuple[type, ...]]] = {
    "path": (str,),
    "symbol": (str, type(None)),
    "interval": (str, type(None)),
    "count": (int, type(None)),
    "latency_ms": (int, float),
    "status": (int, type(None)),
    "body": (str, type(None)),
    "retry_after": (int, type(None)),
    "reset": (bool,),
    "truncate": (bool,),
    "malformed_row": (bool,),
    "open_time": (int, type(None)),
    "mutation": (str,),
    "archive": (str, type(None)),
}


def _parse(wish: Any) -> Fault:
    where, known = "the body of POST /klinecast/v1/faults", [field.name for field in fields(Fault)]
    if not isinstance(wish, dict):
        raise ExchangeSetupError(
            "a fault must be a JSON object", where=where, remedy=f"fields: {', '.join(known)}"
        )
    for name, value in wish.items():
        if name not in _ALLOWED:
            remedy = f"use one of {', '.join(known)}"
            raise ExchangeSetupError(f"unknown field {name!r} of a fault", where=where, remedy=remedy)
        if not isinstance(value, _ALLOWED[name]) or (isinstance(value, bool) and bool not in _ALLOWED[name]):
            remedy = f"give a value of type {' or '.join(kind.__name__ for kind in _ALLOWED[name])}"
            raise ExchangeSetupError(f"{name} cannot be {value!r}", where=where, remedy=remedy)
    if wish.get("archive") is not None:
        wish = {"path": "/data/", **wish}
    fault = Fault(**wish)
    if fault.archive not in (None, *ARCHIVE_FAULTS):
        remedy = f"use one of {', '.join(ARCHIVE_FAULTS)}"
        raise ExchangeSetupError(f"unknown archive fault {fault.archive!r}", where=where, remedy=remedy)
    if fault.mutation not in MUTATIONS:
        remedy = f"use one of {', '.join(MUTATIONS)}"
        raise ExchangeSetupError(f"unknown mutation {fault.mutation!r}", where=where, remedy=remedy)
    if fault.status is not None and not 200 <= fault.status <= 599:
        raise ExchangeSetupError(
            f"status {fault.status} is not possible", where=where, remedy="give 200 to 599"
        )
    return fault
