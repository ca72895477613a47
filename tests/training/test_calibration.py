"""Calibration against forecasts whose fault is known, judged on rows that it was not fitted on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, ndtri, softmax

from training.config import Calibration
from training.network.calibration import (
    LEAST_ROWS,
    fit_calibration,
    fit_step_scales,
    fit_temperature,
    fit_volatility_factor,
)
from training.network.losses import volatility_loss
from training.network.model import quantile_mixing

ROWS = 20_000
LEVELS = (0.05, 0.1, 0.5, 0.8, 0.9)


def classes_of(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (rng.random((len(logits), 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1)


@pytest.mark.parametrize("fault", [0.4, 1.0, 3.0])
def test_the_temperature_finds_how_sure_is_too_sure(fault: float) -> None:
    rng = np.random.default_rng(1)
    true = rng.normal(size=(ROWS, 3))
    came, half = classes_of(true, rng), ROWS // 2
    found = fit_temperature(fault * true[:half], came[:half])
    assert found == pytest.approx(fault, rel=0.08)
    loss = [
        -log_softmax(fault * true[half:] / t, axis=1)[np.arange(half), came[half:]].mean()
        for t in (found, 1.0)
    ]
    assert loss[0] < loss[1] - 0.02 if fault != 1 else loss[0] == pytest.approx(loss[1], abs=1e-3)


def test_a_forecast_without_skill_is_flattened() -> None:
    rng = np.random.default_rng(2)
    found = fit_temperature(rng.normal(size=(ROWS, 3)), rng.integers(0, 3, ROWS))
    assert found > 10


def test_stretched_steps_cover_what_their_levels_say() -> None:
    """Quantiles of a normal with half the true spread, which differs from row to row."""
    rng = np.random.default_rng(3)
    spread, centre = np.exp(rng.normal(0, 0.5, ROWS)), rng.normal(size=ROWS)
    came = centre + spread * rng.standard_t(4, ROWS)
    said = centre[:, None] + 0.5 * spread[:, None] * ndtri(LEVELS)
    half = ROWS // 2
    scales = fit_step_scales(said[:half], came[:half], LEVELS)
    raw = np.concatenate([said[:, 2:3], np.diff(said, axis=1)], axis=1)
    corrected = raw @ quantile_mixing(len(LEVELS), scales).astype(np.float64)
    assert np.allclose(raw @ quantile_mixing(len(LEVELS)), said, atol=1e-5)
    assert (np.diff(corrected, axis=1) > 0).all()
    covered = (came[half:, None] <= corrected[half:]).mean(axis=0)
    before = (came[half:, None] <= said[half:]).mean(axis=0)
    assert np.abs(covered - LEVELS).max() < 0.02 < 0.1 < np.abs(before - LEVELS).max()


def test_the_volatility_factor_makes_what_came_as_high_as_what_was_said() -> None:
    """Forecasts of the centre of a lognormal, judged on rows that the factor was not fitted on."""
    rng, half = np.random.default_rng(4), ROWS // 2
    said = np.exp(rng.normal(size=ROWS))
    came = said * np.exp(rng.normal(0, 0.5, ROWS))
    found = fit_volatility_factor(said[:half], came[:half])
    assert found == pytest.approx(np.exp(0.5**2 / 2), rel=0.02), "the mean of a lognormal over its centre"

    def loss(factor: float) -> float:
        r = came[:half] / (factor * said[:half])
        return float((r - np.log(r) - 1).mean())

    assert min(loss(found), loss(0.99 * found), loss(1.01 * found)) == loss(found)
    assert (came[half:] / said[half:]).mean() == pytest.approx(found, rel=0.02)


def test_one_wild_symbol_does_not_decide_the_volatility_factor() -> None:
    """A tenth of the rows is a hundred times as wild, and forecast twice as high as it came."""
    rng = np.random.default_rng(6)
    wild = rng.random(ROWS) < 0.1
    said = np.where(wild, 100.0, 1.0)
    came = said * np.where(wild, 0.5, 1.2)
    least_squares = (came * said).sum() / (said**2).sum()
    assert fit_volatility_factor(said, came) == pytest.approx(1.13, abs=0.01)
    assert least_squares < 0.51
    assert fit_volatility_factor(np.zeros(3), np.ones(3)) == 1.0


def test_few_rows_and_absent_volatility() -> None:
    rng = np.random.default_rng(5)

    def fitted(n: int) -> Calibration:
        return fit_calibration(
            2 * rng.normal(size=(n, 3)),
            np.sort(rng.normal(size=(n, 3)), axis=1),
            np.ones(n),
            direction=rng.integers(0, 3, n),
            scaled_return=rng.normal(size=n),
            realised_volatility=np.where(np.arange(n) % 2, 1.5, np.nan),
            levels=(0.1, 0.5, 0.9),
        )

    assert fitted(LEAST_ROWS - 1) == Calibration()
    assert fitted(LEAST_ROWS).volatility_factor == pytest.approx(1.5)
    with pytest.raises(ValueError, match="greater than 0"):
        Calibration(temperature=0.0)
    with pytest.raises(ValueError, match="finite and positive"):
        Calibration(step_scales=(1.0, float("nan")))


def test_a_row_without_volatility_adds_nothing_to_its_loss() -> None:
    came, said = np.array([[0.5], [np.nan], [-1.0]], np.float32), np.array([[0.0], [7.0], [1.0]], np.float32)
    assert np.allclose(volatility_loss(came, said), [0.25, 0.0, 4.0])
