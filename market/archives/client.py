"""Asynchronous client of an archive host: a file is handed out only once its checksum has been verified."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import aiohttp

from market.archives.errors import ArchiveFileError, ArchiveHostError, NotInArchiveError
from market.archives.names import ArchiveFile, ArchiveMarket
from market.client_errors import ExchangeError
from market.holding import HoldingConnector
from market.http_session import checked_base_url, open_session
from market.rate_limit import NO_LIMIT, budget_of
from market.transport import Traffic, Transport

BINANCE_ARCHIVE: Final = "https://data.binance.vision"
MOST_ZIP_BYTES: Final = 512 << 20
"""A month of one-second bars, the largest file there is, has less than a quarter of that."""

_CHECKSUM: Final = re.compile(r"(?P<digest>[0-9a-fA-F]{64}) [ *](?P<name>[^\s/]+)\s*\Z", re.ASCII)
_SILENCE_S: Final = 30.0
_LONGEST_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class VerifiedZip:
    """A zip whose bytes have the checksum that the host gives for it (SHA-256, lower case)."""

    file: ArchiveFile
    body: bytes
    sha256: str


class ArchiveClient:
    """One connection pool to one archive host; use as ``async with ArchiveClient(url) as archives``.

    Parameters
    ----------
    base_url : str
        Scheme, host and port, e.g. ``https://data.binance.vision``.
    market : "spot" or "futures/um"
        Whose files.
    concurrency : int
        Requests in flight at once.
    attempts : int
        Tries per request on 5xx, 429, time-outs, resets and cut-off bodies, the first included, with the waits of
        `market.client.ExchangeClient` between them.
    patience_s : float
        Longest Retry-After to sit out.

    Raises
    ------
    MarketError
        If `base_url` is no base URL. Every method raises an `ExchangeError` for what goes wrong.
    """

    def __init__(
        self,
        base_url: str,
        *,
        market: ArchiveMarket = "spot",
        concurrency: int = 4,
        attempts: int = 6,
        patience_s: float = 90.0,
    ) -> None:
        self.base_url, host = checked_base_url(base_url, "an archive")
        self._budget = budget_of(f"{host}/data", NO_LIMIT)
        self.market: ArchiveMarket = market
        self.concurrency = concurrency
        self._attempts = attempts
        self._patience_s = patience_s
        self._session: aiohttp.ClientSession | None = None
        self._transport: Transport | None = None

    async def __aenter__(self) -> ArchiveClient:
        timeout = aiohttp.ClientTimeout(total=_LONGEST_S, sock_connect=5.0, sock_read=_SILENCE_S)
        self._session = open_session(
            self.base_url,
            concurrency=self.concurrency,
            timeout=timeout,
            accept="*/*",
            connector=HoldingConnector(self._budget, limit=self.concurrency),
        )
        self._transport = Transport(
            self._session,
            self.base_url,
            budget=self._budget,  # files have no weight; it keeps the pauses that the host asks for
            concurrency=self.concurrency,
            attempts=self._attempts,
            patience_s=self._patience_s,
            host="archive host",
            most_bytes=MOST_ZIP_BYTES,
            refusal=_refusal,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def traffic(self) -> Traffic:
        """Requests, retries, bytes and waiting time so far."""
        return self._open().traffic

    async def checksum(self, file: ArchiveFile) -> str:
        """Return the SHA-256 (lower-case hex) that the host gives for a file.

        Raises
        ------
        NotInArchiveError
            If the host has no such file.
        ArchiveFileError
            If what it gives is no checksum of this file.
        """
        path = f"/{file.path}.CHECKSUM"
        body = (await self._open().get(path, {}, 0, bytes)).value
        match = _CHECKSUM.match(body[:4_096].decode("ascii", "replace"))
        if match is None or match["name"] != file.zip_name:
            raise ArchiveFileError(
                "the checksum file is not a line `<sha-256>  <name>` for this archive",
                where=f"{self.base_url}{path}",
                remedy="nothing of this file was stored; its bars are asked for by REST",
            )
        return match["digest"].lower()

    async def fetch(self, file: ArchiveFile, sha256: str | None = None) -> VerifiedZip:
        """Return a file whose bytes have the checksum that the host gives for it.

        Parameters
        ----------
        sha256 : str, optional
            That checksum, if it has been asked for already. Where the bytes have another one it is asked for again:
            a file may be rewritten between the two answers.

        Raises
        ------
        NotInArchiveError
            If the host has no such file.
        ArchiveFileError
            If the bytes do not have the checksum.
        """
        told = sha256 or await self.checksum(file)
        while True:
            body = (await self._open().get(f"/{file.path}", {}, 0, bytes)).value
            found = await asyncio.to_thread(lambda data: hashlib.sha256(data).hexdigest(), body)
            if found == told:
                return VerifiedZip(file, body, found)
            before, told = told, await self.checksum(file)
            if told == before:
                break
        raise ArchiveFileError(
            f"the file does not have the checksum that the host gives for it: {found} instead of {told}",
            where=f"{self.base_url}/{file.path}",
            remedy="nothing of this file was stored; run again later, and see whether a proxy changes it on the way",
        )

    def _open(self) -> Transport:
        if self._transport is None:
            raise RuntimeError("use ArchiveClient within `async with`")
        return self._transport


def _refusal(status: int, headers: Mapping[str, str], body: bytes, where: str) -> ExchangeError:
    if status == 404:
        return NotInArchiveError(
            "the archive host has no such file", where=where, remedy="its bars are asked for by REST"
        )
    kind = headers.get("Content-Type", "of no stated type").split(";")[0]
    return ArchiveHostError(
        f"HTTP {status}, {len(body):,} bytes {kind}: the archive host refuses to serve",
        where=where,
        remedy="check KLINECAST_ARCHIVE_URL (scheme, host and port only), or set it to off",
    )
