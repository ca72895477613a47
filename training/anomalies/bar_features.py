"""What the forests look at: z-scores of the bar and of the last few bars, and the shape of the bar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.anomalies.baseline import Baseline
from training.anomalies.statistics import Columns, signed_z

RECENT: Final = 5
"""Bars of "the last few bars"."""


def forest_features(
    columns: Columns, usual: Mapping[str, Baseline]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Compute the forests' features.

    Parameters
    ----------
    columns
        (T, S) bars.
    usual
        Baselines; those of other bars than `columns`, where anomalies were planted into a copy.

    Returns
    -------
    names, values
        (K,) and (T, S, K) float32; NaN where anything of a row is unknown. The value at a bar depends on that
        bar and the `RECENT` before it.

    Notes
    -----
    z-scores are passed through arcsinh: an isolation forest cuts between the extremes of a feature, and one
    enormous value would leave all others on the same side.
    """
    z = signed_z(columns, usual)
    features = {f"z_{name}": np.arcsinh(values) for name, values in z.items()}
    features["z_return_recent"] = np.arcsinh(_trailing_sum(z["return"]) / np.sqrt(RECENT))
    features["z_volume_recent"] = np.arcsinh(_trailing_sum(z["volume"]) / RECENT)
    high, low, close, volume = (columns[name] for name in ("high", "low", "close", "volume"))
    with np.errstate(invalid="ignore", divide="ignore"):
        features["close_position"] = np.where(high > low, (close - low) / (high - low), high * 0 + 0.5)
        if "taker_buy_base" in columns:
            taker = columns["taker_buy_base"]
            features["taker_imbalance"] = np.where(volume > 0, (2 * taker - volume) / volume, taker * 0)
    values = np.stack(list(features.values()), axis=-1).astype(np.float32)
    values[~np.isfinite(values).all(axis=-1)] = np.nan
    return tuple(features), values


def _trailing_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the last `RECENT` rows, NaN until there are so many."""
    total = values.copy()
    for lag in range(1, RECENT):
        total[lag:] += values[:-lag]
    total[: RECENT - 1] = np.nan
    return total
