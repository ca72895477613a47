"""Noise that is a function of (seed, name, block): the same numbers in whatever order they are asked for."""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

# Philox counters are unsigned; blocks before the genesis (warm-up of the filters) have negative numbers.
_BLOCK_OFFSET = 1 << 32


class NoiseStream:
    """A family of independent random generators, one per block number.

    Parameters
    ----------
    seed
        Seed of the market.
    *names
        What the noise is for, e.g. ``("BTCUSDT", "state")``; different names give independent streams.
    """

    def __init__(self, seed: int, *names: str) -> None:
        digest = hashlib.blake2b("\x1f".join((str(seed), *names)).encode(), digest_size=16).digest()
        self._key = np.frombuffer(digest, dtype="<u8")

    def generator(self, block: int) -> np.random.Generator:
        """Return the generator of one block (the counter's high word: blocks never overlap)."""
        counter = np.array([0, 0, 0, block + _BLOCK_OFFSET], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=self._key, counter=counter))


class TruncatedOU:
    """Stationary AR(1) process of unit variance with a memory cut off after ``2 ** doublings`` steps.

    y[t] = c * sum_{j < 2^doublings} phi^j * x[t - j], phi = exp(-1 / time_constant), c so that var(y) = 1.
    The cut-off makes every value a function of a bounded piece of noise, hence random access; the sum is
    built by doubling (window 1, 2, 4, ...), vectorised and the same bit for bit wherever a block begins.

    Parameters
    ----------
    time_constant
        Steps after which the autocorrelation has fallen to 1/e.
    doublings
        log2 of the memory in steps.
    """

    def __init__(self, time_constant: float, doublings: int) -> None:
        self.phi = math.exp(-1.0 / time_constant)
        self.memory = 1 << doublings
        self._doublings = doublings
        self.scale = math.sqrt((1.0 - self.phi**2) / (1.0 - self.phi ** (2 * self.memory)))

    def __call__(self, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """Filter standard normal noise; values from index ``memory - 1`` on have the full memory."""
        y = noise.copy()
        weight, step = self.phi, 1
        for _ in range(self._doublings):
            y[step:] += np.float32(weight) * y[:-step]
            weight *= weight
            step *= 2
        y *= np.float32(self.scale)
        return y
