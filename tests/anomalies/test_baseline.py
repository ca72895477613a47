"""The baseline is the median and spread of earlier bars, and of those alone."""

from __future__ import annotations

import numpy as np
import pytest

from training.anomalies.baseline import log_amount, trailing_baseline

SETTINGS = {"window": 50, "refresh": 7, "minimum": 10, "floor": 1e-9}


def walk(bars: int = 400, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_t(3, (bars, 3))
    values[np.random.default_rng(seed + 1).random((bars, 3)) < 0.1] = np.nan
    return values


def test_each_bar_is_compared_with_the_window_before_its_renewal() -> None:
    values, first = walk(), 1_003
    numbers = np.arange(first, first + len(values))
    base = trailing_baseline(values, numbers, **SETTINGS)
    for row in (60, 61, 100, 399):
        end = row - (first + row) % 7
        for symbol in range(3):
            past = values[end - 50 : end, symbol]
            past = past[~np.isnan(past)]
            median = np.median(past)
            deviation = np.abs(past - median)
            assert base.median[row, symbol] == pytest.approx(median)
            expected = max(1.4826 * np.median(deviation), 1.2533 * deviation.mean())
            assert base.scale[row, symbol] == pytest.approx(expected)


def test_amounts_are_judged_as_logarithms_in_units_of_their_mean() -> None:
    volume = np.abs(walk()) * 1e9
    numbers = np.arange(len(volume))
    base = trailing_baseline(volume, numbers, amounts=True, **SETTINGS)
    past = volume[349:399, 1]  # 399 = 57 * 7 is where a block begins
    unit = np.nanmean(past)
    assert base.unit[399, 1] == pytest.approx(unit)
    assert base.median[399, 1] == pytest.approx(np.nanmedian(log_amount(past, unit)))
    tiny = trailing_baseline(volume * 1e-12, numbers, amounts=True, **SETTINGS)
    assert np.allclose(tiny.median, base.median, equal_nan=True), "free of scale"


def test_no_bar_sees_itself_or_a_later_one() -> None:
    values = walk()
    numbers = np.arange(len(values))
    before = trailing_baseline(values, numbers, **SETTINGS)
    for row in (100, 101, 105, 399):
        other = values.copy()
        other[row:] = 1e6
        after = trailing_baseline(other, numbers, **SETTINGS)
        assert np.array_equal(before.median[: row + 1], after.median[: row + 1], equal_nan=True)
        assert np.array_equal(before.scale[: row + 1], after.scale[: row + 1], equal_nan=True)


def test_where_the_panel_begins_does_not_matter() -> None:
    values = walk()
    numbers = np.arange(len(values))
    whole = trailing_baseline(values, numbers, **SETTINGS)
    for cut in (1, 3, 7, 50):
        part = trailing_baseline(values[cut:], numbers[cut:], **SETTINGS)
        assert np.array_equal(part.scale[60:], whole.scale[60 + cut :], equal_nan=True)


def test_too_few_known_bars_are_no_baseline() -> None:
    values = np.full((100, 1), np.nan)
    values[40:49] = 1.0
    assert np.isnan(trailing_baseline(values, np.arange(100), **SETTINGS).median).all()
    values[49] = 1.0
    base = trailing_baseline(values, np.arange(100), **SETTINGS)
    assert np.isfinite(base.median[56:90]).all()
    assert base.scale[60] == 1e-9, "the floor, where all values are equal"


def test_a_calm_majority_does_not_make_the_scale_vanish() -> None:
    """More than half of the returns of a thinly traded symbol are zero: the MAD is, the scale is not."""
    values = np.zeros((100, 1))
    values[::5] = 0.01 * (-1) ** np.arange(20)[:, None]
    scale = trailing_baseline(values, np.arange(100), **SETTINGS).scale[99, 0]
    assert scale == pytest.approx(1.2533 * 0.01 / 5)
