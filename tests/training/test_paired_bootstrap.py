"""Paired differences: as often significant by chance as the level says, with many blocks and with few."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from training.paired_bootstrap import paired_difference


def test_chance_promotes_as_seldom_as_the_level_says() -> None:
    """Differences without an expectation, dependent over a horizon as labels are: p <= 0.05 in about 5 %."""
    random = np.random.default_rng(5)
    found = []
    for _ in range(300):
        shocks = random.standard_normal((400 + 6, 2)).cumsum(axis=0)
        difference = (shocks[6:] - shocks[:-6]).ravel()
        found.append(
            paired_difference(difference, np.arange(400).repeat(2), block=24, draws=300, seed=1).p_value
        )
    assert 0.02 <= float(np.mean(np.array(found) <= 0.05)) <= 0.11
    assert 0.4 <= float(np.mean(found)) <= 0.6


def test_few_blocks_hold_a_strict_level_too() -> None:
    """At 10 blocks the bootstrap alone is within 0.005 in more than 1.5 % of these samples."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(1500):
        difference = np.convolve(random.standard_normal(240 + 2), np.ones(3), "valid")
        found.append(paired_difference(difference, np.arange(240), block=24, draws=400, seed=1).p_value)
    assert float(np.mean(np.array(found) <= 0.005)) <= 0.0095
    one = paired_difference(np.ones(40), np.arange(40), block=24, draws=400, seed=1)
    assert (one.p_value, one.interval, one.blocks) == (1.0, None, 1), "one block tells nothing"


def test_a_bootstrap_that_finds_none_beyond_leaves_the_word_to_student() -> None:
    values = np.random.default_rng(1).normal(1, 1, 480)
    found = paired_difference(values, np.arange(480), block=24, draws=50, seed=1)
    per_block = values.reshape(20, 24).mean(axis=1)
    assert found.p_value == pytest.approx(ttest_1samp(per_block, 0, alternative="greater").pvalue, rel=1e-6)


def test_one_row_a_time_without_dependence_is_the_textbook_interval() -> None:
    values = np.random.default_rng(1).normal(0.1, 1, 2000)
    found = paired_difference(values, np.arange(2000), block=1, draws=4000, seed=2)
    error = 1.96 * values.std() / np.sqrt(2000)
    assert found.mean == pytest.approx(values.mean())
    assert found.interval == pytest.approx((values.mean() - error, values.mean() + error), abs=0.006)
