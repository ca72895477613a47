"""Model inputs: windows of consecutive bars. The one definition, for training and for serving."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kernels.errors import BadPanel


def window_view(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Every window of every symbol, without copying.

    Parameters
    ----------
    values
        (F, T, S) features.
    window
        Bars in a window.

    Returns
    -------
    ndarray
        (T - window + 1, S, window, F) read-only view; entry [i, s] holds bars i .. i + window - 1 of symbol s, oldest
        first: the window that ends at bar t is entry t - window + 1.

    Raises
    ------
    BadPanel
        The window is not between 1 and T.
    """
    _check(values, window)
    return sliding_window_view(values, window, axis=1).transpose(1, 2, 3, 0)


def complete_windows(values: NDArray[np.float32], window: int) -> NDArray[np.bool_]:
    """Say which windows hold finite numbers only.

    Parameters
    ----------
    values
        (F, T, S) features.
    window
        Bars in a window.

    Returns
    -------
    ndarray
        (T - window + 1, S) bool, in the order of `window_view`.
    """
    _check(values, window)
    return whole_windows(finite_bars(values), window)


def finite_bars(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say at which bars (T, S) all features of (F, T, S) are finite numbers."""
    good = np.ones(values.shape[1:], dtype=bool)
    for plane in values:
        good &= np.isfinite(plane)
    return good


def whole_windows(finite: NDArray[np.bool_], window: int) -> NDArray[np.bool_]:
    """Say which windows, in the order of `window_view`, hold bars (T, S) only that are finite."""
    bad_before = np.zeros((len(finite) + 1, finite.shape[1]), dtype=np.int64)
    np.cumsum(~finite, axis=0, out=bad_before[1:])
    whole: NDArray[np.bool_] = bad_before[window:] == bad_before[:-window]
    return whole


def _check(values: NDArray[np.float32], window: int) -> None:
    if values.ndim != 3 or not 1 <= window <= values.shape[1]:
        raise BadPanel(
            f"no window of {window} bars",
            where=f"features of shape {values.shape} (features, bars, symbols)",
            remedy="give a longer history or a shorter window",
        )
