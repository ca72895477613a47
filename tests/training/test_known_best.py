"""An AUC beside that of the best possible forecast: how far luck goes, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate import skill_against_best
from training.known_best import auc_beside_best, in_words

BARS, SYMBOLS = 600, 5
TIME = np.repeat(np.arange(BARS), SYMBOLS)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def _market(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities (n,) and the returns that came."""
    p = np.clip(0.5 + 0.03 * rng.normal(size=len(TIME)), 0.05, 0.95)
    return p, np.where(rng.random(len(p)) < p, 0.01, -0.01)


def _beside(score: np.ndarray, p: np.ndarray, came: np.ndarray) -> dict:
    beside = auc_beside_best(score, p, came, TIME, block=6, draws=100)
    return skill_against_best(score, p, came) | beside | {"information": {"share": 0.96}}


def test_luck_above_the_best_is_within_its_interval_and_said_to_be_luck(rng: np.random.Generator) -> None:
    lucky = 0
    for _ in range(40):
        p, came = _market(rng)
        found = _beside(p + 0.01 * rng.normal(size=len(p)), p, came)
        low, high = found["auc_above_best_interval"]
        assert low <= found["auc_above_best"] <= high
        assert found["auc_above_best"] == pytest.approx(found["auc"] - found["auc_best"])
        words = in_words(found)
        if found["auc_above_best"] > 0 >= low:
            lucky += 1
            assert f"{found['auc_above_best']:.3f} above it [{low:+.3f}, {high:+.3f}] by the luck" in words
            assert "96% of its information found" in words
        elif found["auc_above_best"] <= 0:
            assert "above" not in words
    assert 3 <= lucky <= 20


def test_what_knows_the_outcome_is_called_a_leak(rng: np.random.Generator) -> None:
    p, came = _market(rng)
    found = _beside(p + 2 * came, p, came)
    assert found["auc_above_best_interval"][0] > 0
    assert "which sampling does not explain: look for a leak" in in_words(found)


def test_without_blocks_there_is_no_interval_and_it_is_said_all_the_same(rng: np.random.Generator) -> None:
    p, came = _market(rng)
    beside = auc_beside_best(p, p, came, TIME, block=200)
    assert (beside["auc_best_interval"], beside["auc_above_best_interval"]) == (None, None)
    words = in_words({"auc": 0.56, "auc_best": 0.55, **beside})
    assert words.startswith("best possible 0.550; the AUC lies 0.010 above it by the luck")
