"""The one definition of a model input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.errors import BadPanel
from kernels.windows import complete_windows, window_view


def test_a_window_holds_the_bars_up_to_its_own():
    values = np.arange(3 * 10 * 2, dtype=np.float32).reshape(3, 10, 2)
    view = window_view(values, 4)
    assert view.shape == (7, 2, 4, 3)
    assert np.shares_memory(view, values)
    assert not view.flags.writeable
    for t in range(3, 10):
        for s in range(2):
            assert np.array_equal(view[t - 3, s], values[:, t - 3 : t + 1, s].T)


@given(seed=st.integers(0, 1000), bars=st.integers(1, 30), window=st.integers(1, 30))
def test_complete_windows_are_those_without_a_hole(seed, bars, window):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, bars, 4)).astype(np.float32)
    values[rng.random(values.shape) < 0.05] = np.nan
    values[rng.random(values.shape) < 0.01] = np.inf
    if window > bars:
        with pytest.raises(BadPanel, match=f"no window of {window} bars"):
            complete_windows(values, window)
        return
    expected = np.isfinite(window_view(values, window)).all(axis=(2, 3))
    assert np.array_equal(complete_windows(values, window), expected)
