"""The archive host of the built-in exchange: everything under /data/, without weight."""

from __future__ import annotations

import time
from typing import Final
from xml.sax.saxutils import escape

from starlette.types import Receive, Scope, Send

from market.archives.names import ArchiveFile, parse_path
from market.exchange.archive_files import WRONG_CHECKSUM, ArchiveShelf, MadeFile
from market.exchange.delivery import interrupted, respond, truncate
from market.exchange.exchange import Exchange
from market.exchange.faults import Fault

PREFIX: Final = "/data/"
_CHECKSUM: Final = ".CHECKSUM"
_XML, _ZIP, _TEXT = b"application/xml", b"application/zip", b"binary/octet-stream"


class ArchiveEndpoint:
    """Zips and their checksums as an ASGI application; what is not there is a 404 with a body like S3's.

    Parameters
    ----------
    exchange
        What is served.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._shelf = ArchiveShelf(exchange.market, exchange.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        exchange, path = self._exchange, scope["path"]
        exchange.last_request = time.monotonic()
        counter = exchange.counter(PREFIX)
        counter.requests += 1
        file = parse_path(path.removesuffix(_CHECKSUM))
        fault = self._fault(path, file)
        if fault is not None and await interrupted(fault, send):
            counter.refused += 1
            return
        made = None if file is None else await self._shelf.find(file, fault.archive if fault else None)
        if file is None or made is None:
            counter.refused += 1
            await respond(send, 404, _no_such_key(path), [], _XML)
            return
        wants_checksum = path.endswith(_CHECKSUM)
        body = _checksum(file, made, fault) if wants_checksum else made.body
        counter.rows += 0 if wants_checksum else made.rows
        counter.bytes += len(body)
        if fault is not None and fault.truncate:
            await truncate(send, body, [], _ZIP)
        else:
            await respond(send, 200, body, [], _TEXT if wants_checksum else _ZIP)

    def _fault(self, path: str, file: ArchiveFile | None) -> Fault | None:
        if not self._exchange.faults.faults:
            return None
        names = {} if file is None else {"symbol": file.symbol, "interval": file.interval}
        return self._exchange.faults.next_for(path, names)


def _checksum(file: ArchiveFile, made: MadeFile, fault: Fault | None) -> bytes:
    digest = made.sha256
    if fault is not None and fault.archive == WRONG_CHECKSUM:
        digest = digest[::-1]
    return f"{digest}  {file.zip_name}\n".encode()


def _no_such_key(path: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
        f"<Message>The specified key does not exist.</Message><Key>{escape(path.lstrip('/'))}</Key></Error>"
    ).encode()
