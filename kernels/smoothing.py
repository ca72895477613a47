"""Recursive averages: values that remember all of their past, with weights that fade."""

from __future__ import annotations

from kernels.operands import whole
from kernels.series import Series, maximum, minimum, previous, recursive, shared


@shared
def ema(x: Series, n: int, seed: int | None = None) -> Series:
    """Exponential moving average with weight 2 / (n + 1), valid after n values.

    Seeded with the mean of the first n values (or of the first `seed`), as TA-Lib does.
    """
    n = whole("ema", n)
    return _average(x, n, 2.0 / (n + 1), n if seed is None else whole("the seed of ema", seed))


@shared
def wilder(x: Series, n: int) -> Series:
    """Wilder's average with weight 1 / n, seeded with the mean of the first n values."""
    n = whole("wilder", n)
    return _average(x, n, 1.0 / n, n)


def _average(x: Series, n: int, weight: float, seed: int) -> Series:
    (average,) = recursive(
        lambda seeding, old: old + (x - old) * seeding.until(seed, 1.0 / seeding.count, weight), warmup=n
    )
    return average


@shared
def wilder_sum(x: Series, n: int) -> Series:
    """Wilder's fading sum: the first n - 1 values are added, then ``s - s / n + x``; valid after n values."""
    n = whole("wilder_sum", n)
    (total,) = recursive(lambda seeding, old: old * seeding.until(n - 1, 1.0, 1.0 - 1.0 / n) + x, warmup=n)
    return total


@shared
def cumulative(x: Series) -> Series:
    """Sum of all values since the first."""
    (total,) = recursive(lambda _seeding, old: old + x)
    return total


@shared
def true_range(high: Series, low: Series, close: Series) -> Series:
    """Wilder's true range: the bar's range extended to the previous close."""
    before = previous(close)
    return maximum(high, before) - minimum(low, before)
