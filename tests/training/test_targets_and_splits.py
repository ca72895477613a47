"""Targets and splits against their definitions, written out slowly."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.config import DOWN, FLAT, UP
from training.data.splits import SPLITS, chronological
from training.data.targets import (
    NO_TARGET,
    direction_of,
    find_volatility_feature,
    forward_log_return,
    forward_realised_volatility,
    horizon_volatility,
)
from training.errors import TrainingSetError


@given(st.lists(st.sampled_from([1.0, 2.0, 3.5, float("nan"), 0.0, -1.0]), max_size=12), st.integers(1, 5))
def test_forward_return_equals_the_loop(prices: list[float], horizon: int) -> None:
    found = forward_log_return(np.array(prices), horizon)
    for t in range(len(prices)):
        span = prices[t : t + horizon + 1]
        if len(span) == horizon + 1 and all(p > 0 for p in span):
            assert math.isclose(found[t], math.log(span[-1] / span[0]), abs_tol=1e-12)
        else:
            assert math.isnan(found[t])


def test_a_gap_between_two_prices_is_no_target() -> None:
    close = np.array([[1.0], [np.nan], [2.0], [2.0], [4.0]])
    assert np.isnan(forward_log_return(close, 2)[:, 0]).tolist() == [True, True, False, True, True]


@given(st.lists(st.sampled_from([1.0, 2.0, 2.0, 3.5, float("nan"), 0.0]), max_size=12), st.integers(1, 5))
def test_realised_volatility_equals_the_loop(prices: list[float], horizon: int) -> None:
    found = forward_realised_volatility(np.array(prices), horizon)
    for t in range(len(prices)):
        span = prices[t : t + horizon + 1]
        whole = len(span) == horizon + 1 and all(p > 0 for p in span)
        squares = sum(math.log(late / early) ** 2 for early, late in pairwise(span)) if whole else 0
        assert math.isclose(found[t], math.sqrt(squares)) if squares else math.isnan(found[t])


def test_realised_volatility_is_of_the_bars_after_t_alone() -> None:
    prices = 100 * np.exp(np.random.default_rng(0).normal(0, 0.01, (40, 2)).cumsum(axis=0))
    found, t, horizon = forward_realised_volatility(prices, 4), 20, 4
    before, after = prices.copy(), prices.copy()
    before[:t], after[t + horizon + 1 :] = 7.0, 7.0
    assert np.array_equal(forward_realised_volatility(before, horizon)[t:], found[t:], equal_nan=True)
    assert np.array_equal(forward_realised_volatility(after, horizon)[: t + 1], found[: t + 1])
    within = prices.copy()
    within[t + horizon] *= 1.5
    assert (forward_realised_volatility(within, horizon)[t] > found[t]).all()


def test_directions_by_volatility() -> None:
    scale = horizon_volatility(np.array([0.01, 0.01, 0.01, 0.01, 0.0, np.nan]), horizon=4)
    assert np.allclose(scale[:4], 0.02) and np.isnan(scale[4:]).all()
    returns = np.array([0.011, -0.011, 0.009, 0.010, 0.5, 0.5])
    assert direction_of(returns / scale, 0.5).tolist() == [UP, DOWN, FLAT, FLAT, NO_TARGET, NO_TARGET]


def test_the_scaling_feature_must_be_told_if_it_is_not_the_only_one() -> None:
    assert find_volatility_feature(("rsi_14", "realised_vol_30")) == "realised_vol_30"
    assert (
        find_volatility_feature(("realised_vol_60", "realised_vol_30"), "realised_vol_60")
        == "realised_vol_60"
    )
    for names, chosen in (
        (("rsi_14",), None),
        (("realised_vol_3", "realised_vol_9"), None),
        (("rsi_14",), "x"),
    ):
        with pytest.raises(TrainingSetError, match="realised_vol_<n>"):
            find_volatility_feature(names, chosen)


@settings(max_examples=200)
@given(st.integers(0, 50), st.integers(60, 400), st.integers(1, 8), st.integers(0, 8))
def test_no_label_reaches_the_next_split_and_every_bar_is_accounted_for(
    first: int, length: int, horizon: int, extra: int
) -> None:
    embargo = horizon + extra
    try:
        splits = chronological(
            first, first + length, train_share=0.7, validation_share=0.15, horizon=horizon, embargo=embargo
        )
    except TrainingSetError:
        assert 0.15 * length - 1 <= horizon + embargo
        return
    assert [split.name for split in splits] == list(SPLITS)
    for early, late in pairwise(splits):
        last_label_bar = early.stop - 1 + horizon
        assert last_label_bar < early.purged[1] == late.embargoed[0]
        assert late.start - last_label_bar > embargo
    spans = [span for split in splits for span in (split.embargoed, (split.start, split.stop), split.purged)]
    assert sorted(b for low, high in spans for b in range(low, high)) == list(range(first, first + length))
