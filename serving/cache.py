"""A cache of arrays in two levels: this process's memory, and perhaps a Redis or Valkey that processes share.

A cache only saves time: whoever uses it puts everything that an entry depends on into the key, and computes
the entry itself where it is not found. So a failing second level is no error: the first goes on alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from serving.errors import CacheError

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 1
"""Part of every key: entries of another format are never looked at."""

MAX_BYTES: Final = 256 * 1024 * 1024
_MAGIC: Final = b"KCAC"
_LENGTH_BYTES: Final = 4
_DIGEST_BYTES: Final = 16
_KINDS: Final = frozenset("biuf")  # plain numbers: nothing that could hold an object

Arrays = dict[str, NDArray[Any]]


def cache_key(kind: str, **parts: object) -> str:
    """Return the key of an entry.

    Parameters
    ----------
    kind
        What the entry is, e.g. ``windows``.
    **parts
        Everything that it depends on; JSON values.
    """
    told = json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
    return f"klinecast:{FORMAT_VERSION}:{kind}:{hashlib.blake2b(told, digest_size=_DIGEST_BYTES).hexdigest()}"


def encode(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Write arrays as a JSON header and their raw bytes, with a digest of the lot."""
    entries, parts = [], []
    for name, array in arrays.items():
        if array.dtype.kind not in _KINDS:
            raise TypeError(f"array {name!r} of dtype {array.dtype} cannot be cached: plain numbers only")
        entries.append({"name": name, "dtype": array.dtype.str, "shape": array.shape})
        parts.append(np.ascontiguousarray(array).tobytes())
    header = json.dumps(entries).encode()
    body = b"".join([len(header).to_bytes(_LENGTH_BYTES, "little"), header, *parts])
    return _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() + body


def decode(data: bytes) -> Arrays:
    """Read what `encode` wrote; the arrays are read-only.

    Raises
    ------
    ValueError
        The bytes are something else, or damaged.
    """
    start = len(_MAGIC) + _DIGEST_BYTES
    body = memoryview(data)[start:]
    digest = hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()
    if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : start] != digest:
        raise ValueError("not a cache entry, or a damaged one")
    length = int.from_bytes(body[:_LENGTH_BYTES], "little")
    at = _LENGTH_BYTES + length
    arrays: Arrays = {}
    for entry in json.loads(bytes(body[_LENGTH_BYTES:at])):
        dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
        if dtype.kind not in _KINDS:
            raise ValueError(f"dtype {dtype} in a cache entry")
        count = int(np.prod(shape, dtype=np.int64))
        arrays[entry["name"]] = np.frombuffer(body, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
    return arrays


class MemoryLevel:
    """The first level: the entries used last, up to a number of bytes. Safe for several threads."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._entries: OrderedDict[str, Arrays] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Arrays | None:
        """Return an entry, which becomes the one used last, or None."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return None if found is None else dict(found)

    def put(self, key: str, arrays: Arrays) -> None:
        """Keep an entry and let go of the ones used longest ago; one larger than the bound is not kept."""
        size = _bytes_of(arrays)
        with self._lock:
            former = self._entries.pop(key, None)
            self.bytes -= _bytes_of(former) if former else 0
            if size > self.max_bytes:
                return
            self._entries[key] = arrays
            self.bytes += size
            while self.bytes > self.max_bytes:
                _, dropped = self._entries.popitem(last=False)
                self.bytes -= _bytes_of(dropped)

    def __len__(self) -> int:
        return len(self._entries)


class SharedLevel:
    """The second level: Redis or Valkey. Never raises once set up; while it fails it is left alone.

    Parameters
    ----------
    url
        ``redis://``, ``rediss://`` or ``unix://``; may hold a password and is never logged.
    keep_s
        Seconds that an entry stays.
    timeout_s
        Seconds to wait for an answer: a cache slower than the work that it saves is of no use.
    rest_s
        Seconds without any attempt after a failure.
    """

    def __init__(
        self,
        url: str,
        *,
        keep_s: int = 3_600,
        timeout_s: float = 0.5,
        rest_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import redis  # takes a while to load, and few homes have a second level
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._errors = (redis.RedisError, OSError)
        try:
            self._client = redis.Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 1),
                decode_responses=False,
            )
        except ValueError as error:
            raise CacheError(
                "the URL of the cache cannot be used",
                where="KLINECAST_REDIS_URL (not shown, it may hold a secret)",
                remedy="give redis://host:port/0, rediss://… or unix://…, or unset it",
            ) from error
        self._keep_s = keep_s
        self._rest_s = rest_s
        self._clock = clock
        self._rests_until: float | None = None
        self._lock = threading.Lock()

    def get(self, key: str) -> Arrays | None:
        """Return an entry or None, also where the level fails or the entry is damaged."""
        data = self._try(lambda: self._client.get(key))
        if not isinstance(data, bytes):
            return None
        try:
            return decode(data)
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("cache entry %s is damaged and is computed again: %s", key, error)
            return None

    def put(self, key: str, arrays: Arrays) -> None:
        """Keep an entry, if the level works."""
        self._try(lambda: self._client.set(key, encode(arrays), ex=self._keep_s))

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _try(self, call: Callable[[], object]) -> object:
        if self._rests_until is not None and self._clock() < self._rests_until:
            return None
        try:
            result = call()
        except self._errors as error:
            self._fail(error)
            return None
        with self._lock:
            if self._rests_until is not None:
                self._rests_until = None
                logger.info("the shared cache answers again")
        return result

    def _fail(self, error: Exception) -> None:
        with self._lock:
            first = self._rests_until is None
            self._rests_until = self._clock() + self._rest_s
        if first:  # one warning an outage, however many calls fall into it
            logger.warning(
                "the shared cache does not answer (%s); going on with this process's memory alone",
                type(error).__name__,
            )


class ArrayCache:
    """Named arrays under a key, looked up in memory first, then in the shared level if there is one."""

    def __init__(self, memory: MemoryLevel | None = None, shared: SharedLevel | None = None) -> None:
        self.memory = MemoryLevel() if memory is None else memory
        self.shared = shared

    def get(self, key: str) -> Arrays | None:
        """Return the entry, its arrays read-only, or None."""
        found = self.memory.get(key)
        if found is None and self.shared is not None:
            found = self.shared.get(key)
            if found is not None:
                self.memory.put(key, found)
        return found

    def put(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep copies of the arrays under the key; what the caller does to his afterwards changes nothing."""
        kept = {name: np.array(array, order="C") for name, array in arrays.items()}
        for array in kept.values():
            array.flags.writeable = False
        self.memory.put(key, kept)
        if self.shared is not None:
            self.shared.put(key, kept)

    def close(self) -> None:
        """Let go of the connections."""
        if self.shared is not None:
            self.shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_cache(redis_url: str | None = None, *, max_bytes: int = MAX_BYTES) -> ArrayCache:
    """Open the cache that the settings ask for.

    Raises
    ------
    CacheError
        The URL is not one; a server that does not answer is no error.
    """
    return ArrayCache(MemoryLevel(max_bytes), SharedLevel(redis_url) if redis_url else None)


def _bytes_of(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())
