"""Windows of the last n bars, each value computed from its window alone.

A running sum that adds the new bar and subtracts the one that leaves drifts, and never recovers from a bad print.
Here every window is put together from blocks of 2, 4, 8, ... bars ("ladder"): one operation per level and bar, no
branches, and nothing survives the window. Windows of different lengths over the same values share their blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kernels.errors import KernelError
from kernels.operands import whole
from kernels.series import Series, absolute, maximum, minimum, previous, shared, where

_LONGEST_WALK = 250
"""Bars; every one of them is an instruction or three in the step function."""


@shared
def rolling_sum(x: Series, n: int) -> Series:
    """Sum of the last n values; for values of one sign the relative error is at most log2(n) roundings."""
    n = whole("rolling_sum", n)
    total, covered = None, 0
    block, width = x, 1
    while True:
        if n & width:
            total = block if total is None else total + previous(block, covered)
            covered += width
        if covered == n and total is not None:
            return total
        block, width = block + previous(block, width), 2 * width


def rolling_mean(x: Series, n: int) -> Series:
    """Arithmetic mean of the last n values."""
    n = whole("rolling_mean", n)
    return rolling_sum(x, n) * (1.0 / n)


@shared
def weighted_mean(x: Series, n: int) -> Series:
    """Mean with weights n, n-1, ..., 1 from the newest value to the oldest.

    A block carries its sum S and its age-weighted sum A = 0*newest + 1*next + ...; the older of two joined blocks is
    `covered` bars further back, so A = A_new + A_old + covered * S_old.
    """
    n = whole("weighted_mean", n)
    total: tuple[Series, Series | None] | None = None
    covered = 0
    block: tuple[Series, Series | None] = (x, None)
    width = 1
    while True:
        if n & width:
            total = block if total is None else _join_weighted(total, block, covered)
            covered += width
        if covered == n and total is not None:
            weighted = total[0] * float(n)
            return (weighted if total[1] is None else weighted - total[1]) * (2.0 / (n * (n + 1)))
        block, width = _join_weighted(block, block, width), 2 * width


def _join_weighted(
    newer: tuple[Series, Series | None], older: tuple[Series, Series | None], bars: int
) -> tuple[Series, Series]:
    old_sum = previous(older[0], bars)
    ages = old_sum * float(bars) if bars > 1 else old_sum
    if older[1] is not None:
        ages = ages + previous(older[1], bars)
    if newer[1] is not None:
        ages = ages + newer[1]
    return newer[0] + old_sum, ages


@dataclass(frozen=True)
class Moments:
    """Mean, relative to the newest value, and sums of powers of the deviations from the mean."""

    n: int
    newest: Series
    offset: Series
    m2: Series
    m3: Series | None = None
    m4: Series | None = None

    @property
    def mean(self) -> Series:
        """Arithmetic mean."""
        return self.newest + self.offset

    @property
    def variance(self) -> Series:
        """Population variance (ddof 0)."""
        return self.m2 * (1.0 / self.n)


@shared
def rolling_moments(x: Series, n: int, order: int = 2) -> Moments:
    """Central moments of the last n values up to `order` (2, 3 or 4).

    Blocks are joined with the formulas of Chan, Golub and LeVeque (1983) and Pebay (2008), with each block's mean kept
    relative to its newest value: every difference taken is one of neighbouring prices, so the error is relative to the
    spread of the window, not to the price, and a flat window has moments of exactly zero.
    """
    n = whole("rolling_moments", n)
    total: Moments | None = None
    covered = 0
    zero = x - x
    block = Moments(1, x, zero, zero, zero if order > 2 else None, zero if order > 3 else None)
    while True:
        width = block.n
        if n & width:
            total = block if total is None else _join_moments(total, block)
            covered += width
        if covered == n and total is not None:
            return total
        block = _join_moments(block, block)


def _join_moments(newer: Moments, older: Moments) -> Moments:
    """Put `older` right behind `newer`."""
    a, b = float(newer.n), float(older.n)
    n, x, lag = a + b, newer.newest, newer.n
    step = previous(x, lag) - x
    if older.n == 1 and newer.n == 1:  # both blocks are one value: their moments are zero
        half = step * 0.5
        square = step * half
        m4 = square * square * 0.5 if newer.m4 is not None else None
        return Moments(2, x, half, square, newer.m3, m4)
    old_m2 = previous(older.m2, lag)
    gap = (step + previous(older.offset, lag)) - newer.offset
    square = gap * gap
    offset = newer.offset + gap * (b / n)
    m2 = newer.m2 + old_m2 + square * (a * b / n)
    m3 = m4 = None
    if newer.m3 is not None and older.m3 is not None:
        old_m3 = previous(older.m3, lag)
        tilt = old_m2 * (a / n) - newer.m2 * (b / n)
        m3 = newer.m3 + old_m3 + gap * (square * (a * b * (a - b) / (n * n)) + tilt * 3.0)
        if newer.m4 is not None and older.m4 is not None:
            spread = old_m2 * (a * a / (n * n)) + newer.m2 * (b * b / (n * n))
            lean = old_m3 * (a / n) - newer.m3 * (b / n)
            own = square * square * (a * b * (a * a - a * b + b * b) / (n * n * n))
            m4 = newer.m4 + previous(older.m4, lag) + own + square * spread * 6.0 + gap * lean * 4.0
    return Moments(int(n), x, offset, m2, m3, m4)


@shared
def highest(x: Series, n: int) -> Series:
    """Maximum of the last n values."""
    n = whole("highest", n)
    block, width = x, 1
    while 2 * width <= n:
        block, width = maximum(block, previous(block, width)), 2 * width
    return block if width == n else maximum(block, previous(block, n - width))


@shared
def lowest(x: Series, n: int) -> Series:
    """Minimum of the last n values."""
    n = whole("lowest", n)
    block, width = x, 1
    while 2 * width <= n:
        block, width = minimum(block, previous(block, width)), 2 * width
    return block if width == n else minimum(block, previous(block, n - width))


@shared
def bars_since_highest(x: Series, n: int) -> Series:
    """How many bars ago the maximum of the last n values was; the latest of equals."""
    return _age_of_extreme(x, n, maximum, lambda newer, older: newer >= older)


@shared
def bars_since_lowest(x: Series, n: int) -> Series:
    """How many bars ago the minimum of the last n values was; the latest of equals."""
    return _age_of_extreme(x, n, minimum, lambda newer, older: newer <= older)


def _age_of_extreme(
    x: Series,
    n: int,
    extreme: Callable[[Series, Series], Series],
    newer_wins: Callable[[Series, Series], Series],
) -> Series:
    """Walk the ladder of `highest` or `lowest` and carry the age of each block's extreme along."""
    n = whole("bars_since_highest or bars_since_lowest", n)
    value, width = x, 1
    age: Series | None = None
    while width < n:
        lag = min(width, n - width)
        older = previous(value, lag)
        older_age = float(lag) if age is None else previous(age, lag) + float(lag)
        age = where(newer_wins(value, older), 0.0 if age is None else age, older_age)
        value, width = extreme(value, older), width + lag
    return x - x if age is None else age


@shared
def mean_deviation(x: Series, n: int) -> tuple[Series, Series]:
    """Mean of the last n values and the mean absolute deviation from it; walks the whole window.

    Raises
    ------
    KernelError
        The window is longer than 250 bars.
    """
    n = whole("mean_deviation", n)
    if n > _LONGEST_WALK:
        raise KernelError(
            f"a mean deviation over {n} bars",
            where="a feature's formula",
            remedy=f"use at most {_LONGEST_WALK} bars",
        )
    mean = rolling_mean(x, n)
    return mean, _pairwise([absolute(previous(x, bars) - mean) for bars in range(n)]) * (1.0 / n)


def _pairwise(values: list[Series]) -> Series:
    """Sum as a balanced tree: short chains for the processor, small errors."""
    while len(values) > 1:
        paired = [a + b for a, b in zip(values[::2], values[1::2], strict=False)]
        values = paired + values[len(paired) * 2 :]
    return values[0]
