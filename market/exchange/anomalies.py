"""Planted anomalies of the simulated market: rare, undirected, and known to whoever asks for the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from market.exchange.climate import BLOCK_MINUTES
from market.exchange.noise import NoiseStream

ANOMALIES_PER_BLOCK: Final = 0.6
KINDS: Final = ("jump", "volume", "wick")
_MARGIN: Final = 180  # minutes kept free at the edges, so that no anomaly crosses a block
_DECAY: Final = 8.0


@dataclass(frozen=True)
class Anomaly:
    """One planted anomaly: ``first`` and ``minutes`` count from the block's start.

    ``magnitude`` is in units of the minute's volatility (jump, wick) or of the normal volume (volume).
    """

    kind: str
    first: int
    minutes: int
    magnitude: float
    sign: int


@dataclass(frozen=True)
class Disturbance:
    """What the anomalies of a block do to its minutes; arrays of shape (BLOCK_MINUTES,).

    ``shock_gain`` multiplies the return noise (never the planted drift), ``volume_gain`` the volume,
    ``wick_up`` and ``wick_down`` lengthen the bar's range, in units of volatility.
    """

    shock_gain: NDArray[np.float64]
    volume_gain: NDArray[np.float64]
    wick_up: NDArray[np.float64]
    wick_down: NDArray[np.float64]


_UNDISTURBED: Final = Disturbance(
    np.ones(BLOCK_MINUTES), np.ones(BLOCK_MINUTES), np.zeros(BLOCK_MINUTES), np.zeros(BLOCK_MINUTES)
)


def draw_anomalies(noise: NoiseStream, block: int, trading: NDArray[np.bool_]) -> list[Anomaly]:
    """Draw a block's anomalies, earliest first; one that would begin in an outage does not happen."""
    random = noise.generator(block)
    drawn = []
    for _ in range(int(random.poisson(ANOMALIES_PER_BLOCK))):
        kind = KINDS[int(random.choice(3, p=(0.6, 0.25, 0.15)))]
        first = int(random.integers(_MARGIN, BLOCK_MINUTES - _MARGIN))
        magnitude = float(random.uniform(10.0, 25.0))
        sign = 1 if random.random() < 0.5 else -1
        minutes = {"jump": 40, "volume": int(random.integers(3, 15)), "wick": 1}[kind]
        if trading[first]:
            drawn.append(Anomaly(kind, first, minutes, magnitude, sign))
    return sorted(drawn, key=lambda anomaly: anomaly.first)


def disturb(anomalies: list[Anomaly]) -> Disturbance:
    """Turn a block's anomalies into per-minute gains.

    A jump is one minute of ``magnitude`` times the usual noise (its direction is a coin toss) and forty
    minutes of fading turbulence and volume; it carries no drift, so it adds nothing that could be predicted.
    """
    if not anomalies:
        return _UNDISTURBED
    shock, volume = np.ones(BLOCK_MINUTES), np.ones(BLOCK_MINUTES)
    up, down = np.zeros(BLOCK_MINUTES), np.zeros(BLOCK_MINUTES)
    for anomaly in anomalies:
        span = slice(anomaly.first, anomaly.first + anomaly.minutes)
        if anomaly.kind == "jump":
            fading = np.exp(-np.arange(anomaly.minutes) / _DECAY)
            shock[span] *= 1.0 + 0.2 * anomaly.magnitude * fading
            shock[anomaly.first] = anomaly.magnitude
            volume[span] *= 1.0 + anomaly.magnitude * fading
        elif anomaly.kind == "volume":
            volume[span] *= anomaly.magnitude
        else:
            (up if anomaly.sign > 0 else down)[anomaly.first] = anomaly.magnitude
            volume[anomaly.first] *= 6.0
    return Disturbance(shock, volume, up, down)
