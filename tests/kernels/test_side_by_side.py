"""Features of a longer interval beside those of a shorter: never before they are known."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.compute import FeatureBlock
from kernels.errors import BadPanel
from kernels.side_by_side import side_by_side

MINUTE = 60_000


def block(name: str, minutes: int, bars: int, symbols: tuple[str, ...], first: int = 0) -> FeatureBlock:
    open_time = first + np.arange(bars, dtype=np.int64) * minutes * MINUTE
    values = np.repeat((open_time // MINUTE).astype(np.float32)[None, :, None], len(symbols), axis=2)
    values = values + np.arange(len(symbols), dtype=np.float32) * 0.25
    return FeatureBlock(values, (name,), open_time, symbols)


def test_a_long_bar_is_seen_once_it_has_closed():
    base = block("rsi_14", 5, 12, ("A", "B"))
    joined = side_by_side(base, 5 * MINUTE, {"15m": (block("rsi_14", 15, 4, ("B", "A")), 15 * MINUTE)})
    assert joined.names == ("rsi_14", "rsi_14@15m")
    assert joined.values.dtype == np.float32
    assert np.array_equal(joined.values[0], base.values[0])
    seen = joined.values[1, :, 0]
    for t, value in enumerate(seen):
        closed = (t + 1) * 5
        expected = np.nan if closed < 15 else closed // 15 * 15 - 15 + 0.25  # A is second in the long block
        assert np.array_equal(value, np.float32(expected), equal_nan=True)


def test_what_is_not_there_is_nan():
    base = block("ema_9", 5, 12, ("A", "C"))
    long = block("ema_9", 15, 1, ("A",))
    values = side_by_side(base, 5 * MINUTE, {"15m": (long, 15 * MINUTE)}).values[1]
    assert np.isnan(values[:, 1]).all()
    assert np.isnan(values[:2, 0]).all()
    assert (values[2:5, 0] == 0).all()
    assert np.isnan(values[5:, 0]).all()


def test_a_shorter_interval_shows_its_last_closed_bar():
    base = block("ema_9", 15, 3, ("A",))
    values = side_by_side(base, 15 * MINUTE, {"5m": (block("ema_9", 5, 9, ("A",)), 5 * MINUTE)}).values[
        1, :, 0
    ]
    assert values.tolist() == [10.0, 25.0, 40.0]


def test_a_wrong_length_is_refused():
    with pytest.raises(BadPanel, match="15m are not"):
        side_by_side(block("a", 5, 3, ("A",)), 5 * MINUTE, {"15m": (block("a", 30, 3, ("A",)), 15 * MINUTE)})
