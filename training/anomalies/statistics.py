"""First kind of detector: how many robust standard deviations a bar lies from the bars before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from market.intervals import interval_ms
from market.store import Panel
from training.anomalies.baseline import Baseline, log_amount, trailing_baseline

Columns = Mapping[str, NDArray[np.float64]]

_RETURN_FLOOR: Final = 1e-4  # one basis point: about the tick of a liquid symbol
_AMOUNT_FLOOR: Final = 0.05  # 5 % of the mean amount
_AMOUNTS: Final = ("volume", "trades")

Z_STATISTICS: Final[tuple[str, ...]] = ("return", "volume", "range", "trades")
"""Quantities that a z-score is computed of; trades where the bars tell them."""

_TWO_SIDED: Final = frozenset({"return"})
_CLIP: Final = 1e4


@dataclass(frozen=True)
class PastWindow:
    """What "the bars before" are, in bars."""

    window: int
    refresh: int
    minimum: int


def bar_quantities(columns: Columns) -> dict[str, NDArray[np.float64]]:
    """Return the (T, S) quantities of bars that are compared with their past.

    ``return`` = log(close / previous close), ``range`` = log(high / low), ``volume`` and ``trades`` as given.
    """
    close = columns["close"]
    before = np.vstack([np.full((1, close.shape[1]), np.nan), close[:-1]])
    quantities = {
        "return": np.log(close / before),
        "volume": columns["volume"],
        "range": np.log(columns["high"] / columns["low"]),
    }
    if "trades" in columns:
        quantities["trades"] = columns["trades"]
    return quantities


def baselines(panel: Panel, columns: Columns, past: PastWindow) -> dict[str, Baseline]:
    """Return the baseline of every quantity."""
    bar_number = panel.open_time // interval_ms(panel.interval)
    return {
        name: trailing_baseline(
            values,
            bar_number,
            window=past.window,
            refresh=past.refresh,
            minimum=past.minimum,
            floor=_AMOUNT_FLOOR if name in _AMOUNTS else _RETURN_FLOOR,
            amounts=name in _AMOUNTS,
        )
        for name, values in bar_quantities(columns).items()
    }


def signed_z(columns: Columns, usual: Mapping[str, Baseline]) -> dict[str, NDArray[np.float64]]:
    """Return (value - median) / scale of every quantity, (T, S), limited to +-10,000."""
    result = {}
    for name, values in bar_quantities(columns).items():
        base = usual[name]
        measured = log_amount(values, base.unit) if name in _AMOUNTS else values
        result[name] = np.clip((measured - base.median) / base.scale, -_CLIP, _CLIP)
    return result


def z_scores(z: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float32]]:
    """Return the detectors' scores: large returns of either sign, and unusually much of everything else."""
    return {
        f"robust_z_{name}": (np.abs(values) if name in _TWO_SIDED else values).astype(np.float32)
        for name, values in z.items()
    }
