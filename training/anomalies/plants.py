"""Anomalies planted into copies of past bars, so that a classifier has something to learn with known labels.

Three patterns, sized by what is unusual for each symbol (drawn uniformly from the ranges of this module):
moves in robust standard deviations of its one-bar return, volumes in multiples of one that lies `LARGE` of
them above its median.

pump and dump
    The price rises within 1 to 5 bars, on large volume, most of it bought by takers, and falls
    back over the following 5 to 20 bars while the volume fades.
volume spike
    Large volume for 1 to 3 bars; the price does as it did.
flash crash
    Within one bar the low falls far; the close takes back most of it, and the next 2 to 6 bars the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.anomalies.baseline import Baseline
from training.anomalies.statistics import Columns

SPACING: Final = 60
"""Bars in which at most one anomaly is planted."""
LONGEST: Final = 25

LARGE: Final = 10.0
"""Robust standard deviations above the median of log(1 + volume / mean) at which a volume is large."""

_MOVE_SCALES: Final = (10.0, 150.0)  # robust standard deviations
_LEAST_MOVE: Final = 0.01
_LARGEST_MOVE: Final = 1.0
_VOLUME_FACTOR: Final = (0.5, 10.0)  # large volumes
_LARGEST_AMOUNT: Final = 1_000.0  # mean amounts, the unit of a large one
_BOUGHT: Final = (0.6, 0.9)  # by takers, of the planted volume

CLEAN, ONSET, AFTERMATH = 0, 1, 2


@dataclass(frozen=True)
class Pattern:
    """What an anomaly does to L bars.

    Attributes
    ----------
    close_factor
        (L,) that closes are multiplied by; the last is 1, the price ends where it would have.
    low_factor
        (L,) that lows are multiplied by in addition.
    volume
        (L,) added, in units of a large volume.
    bought
        Share of the added volume that takers bought.
    onset
        Bars at the start that a detector should flag.
    """

    close_factor: NDArray[np.float64]
    low_factor: NDArray[np.float64]
    volume: NDArray[np.float64]
    bought: float
    onset: int


def pump_and_dump(random: np.random.Generator, usual_return: float) -> Pattern:
    """Draw a pump and dump."""
    up, down = int(random.integers(1, 6)), int(random.integers(5, 21))
    move = _move(random, usual_return)
    rise = np.sort(random.uniform(0.2, 1.0, up))
    rise[-1] = 1.0
    fall = np.exp(-3.0 * np.arange(1, down + 1) / down)
    fall[-1] = 0.0
    path = np.concatenate([rise, fall])
    volume = random.uniform(*_VOLUME_FACTOR) * np.concatenate([np.linspace(0.5, 1.0, up), fall])
    return Pattern(np.exp(move * path), np.ones(len(path)), volume, random.uniform(*_BOUGHT), up)


def volume_spike(random: np.random.Generator, usual_return: float) -> Pattern:
    """Draw a volume spike; it does not depend on the usual return."""
    bars = int(random.integers(1, 4))
    volume = random.uniform(*_VOLUME_FACTOR) * random.uniform(0.5, 1.0, bars)
    return Pattern(np.ones(bars), np.ones(bars), volume, random.uniform(0.3, 0.7), bars)


def flash_crash(random: np.random.Generator, usual_return: float) -> Pattern:
    """Draw a flash crash."""
    recovery = int(random.integers(2, 7))
    move = _move(random, usual_return)
    left = random.uniform(0.0, 0.5)  # of the fall, at the close of its bar
    path = left * np.linspace(1.0, 0.0, recovery + 1)
    low = np.ones(recovery + 1)
    low[0] = np.exp(-move * (1 - left))
    volume = random.uniform(*_VOLUME_FACTOR) * np.exp(-np.arange(recovery + 1.0))
    return Pattern(np.exp(-move * path), low, volume, 1 - random.uniform(*_BOUGHT), 1)


PATTERNS: Final = (pump_and_dump, volume_spike, flash_crash)


def plant(
    columns: Columns,
    usual: Mapping[str, Baseline],
    rows: int,
    most: int,
    random: np.random.Generator,
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int8]]:
    """Plant anomalies into a copy of the first `rows` bars.

    Parameters
    ----------
    columns
        (T, S) bars.
    usual
        Their baselines.
    rows
        Bars that may be copied and changed.
    most
        Anomalies planted at most.
    random
        Where and what.

    Returns
    -------
    columns, labels
        (rows, S) each; labels `CLEAN`, `ONSET` or `AFTERMATH`.
    """
    changed = {name: values[:rows].copy() for name, values in columns.items()}
    labels = np.full(changed["close"].shape, CLEAN, np.int8)
    symbols = columns["close"].shape[1]
    chosen = random.permutation(rows // SPACING * symbols)[:most]
    for at, place in enumerate(chosen.tolist()):
        slot, symbol = divmod(place, symbols)
        start = slot * SPACING + int(random.integers(1, SPACING - LONGEST))
        sizes = _sizes_at(usual, start, symbol)
        pattern = PATTERNS[at % len(PATTERNS)](random, sizes["return"] if sizes else 0.0)
        bars = slice(start, start + len(pattern.volume))
        if sizes is None or np.isnan(changed["close"][start - 1 : bars.stop, symbol]).any():
            continue
        _apply(changed, bars, symbol, pattern, sizes)
        labels[bars, symbol] = AFTERMATH
        labels[start : start + pattern.onset, symbol] = ONSET
    return changed, labels


def _move(random: np.random.Generator, usual_return: float) -> float:
    """Size of a price move as a log return."""
    return float(np.clip(random.uniform(*_MOVE_SCALES) * usual_return, _LEAST_MOVE, _LARGEST_MOVE))


def _sizes_at(usual: Mapping[str, Baseline], row: int, symbol: int) -> dict[str, float] | None:
    """Usual return, and large volume and trades, of one symbol at one bar."""
    found = {"return": float(usual["return"].scale[row, symbol])}
    for name in ("volume", "trades"):
        if name in usual:
            base = usual[name]
            large = np.expm1(base.median[row, symbol] + LARGE * base.scale[row, symbol])
            found[name] = float(base.unit[row, symbol] * min(large, _LARGEST_AMOUNT))
    return found if np.isfinite(list(found.values())).all() else None


def _apply(
    columns: dict[str, NDArray[np.float64]],
    bars: slice,
    symbol: int,
    pattern: Pattern,
    sizes: Mapping[str, float],
) -> None:
    factor = pattern.close_factor
    before = np.concatenate([[1.0], factor[:-1]])
    columns["open"][bars, symbol] *= before
    columns["close"][bars, symbol] *= factor
    columns["high"][bars, symbol] *= np.maximum(factor, before)
    columns["low"][bars, symbol] *= np.minimum(factor, before) * pattern.low_factor
    added = pattern.volume * sizes["volume"]
    columns["volume"][bars, symbol] += added
    if "trades" in sizes:
        columns["trades"][bars, symbol] += pattern.volume * sizes["trades"]
    if "taker_buy_base" in columns:
        columns["taker_buy_base"][bars, symbol] += pattern.bought * added
