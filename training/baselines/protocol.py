"""What every baseline is: fitted on the training and validation rows of a training set, then asked about rows.

A fitted baseline may look at the bars up to and including t of the rows (t, s) it is asked about, and at nothing
later; tests/training/test_baselines.py changes what comes later and looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from training.config import DOWN, UP
from training.data.training_set import TrainingSet
from training.evaluate import Forecast

Rows = NDArray[np.integer]
Floats = NDArray[np.floating]


class Said(NamedTuple):
    """What a forecast says about n rows; None where it says nothing about a thing."""

    predicted: NDArray[np.integer] | None = None
    """(n,) class."""
    score: Floats | None = None
    """(n,) the higher, the likelier a rise; p_up - p_down where there are probabilities."""
    probability: Floats | None = None
    """(n, 3) of down, flat, up."""
    quantiles: Floats | None = None
    """(n, Q) of the log return over the horizon."""
    volatility: Floats | None = None
    """(n,) realised volatility over the horizon."""


Predict = Callable[[Rows], Said]
"""Rows (n, 2) of (t, s) to what is said about them."""


class Baseline(Protocol):
    """A way to forecast that is to be beaten."""

    def __call__(self, data: TrainingSet, *, seed: int) -> Predict:
        """Fit it to the training rows of `data`, choosing by the validation rows if there is something to choose."""


def said_of_probability(
    probability: Floats, *, quantiles: Floats | None = None, volatility: Floats | None = None
) -> Said:
    """Derive class and score from class probabilities (n, 3)."""
    p = np.asarray(probability, np.float64)
    return Said(p.argmax(axis=1), p[:, UP] - p[:, DOWN], p, quantiles, volatility)


def said_of_forecast(forecast: Forecast) -> Said:
    """Take over the forecasts of a model."""
    return said_of_probability(
        forecast.direction, quantiles=forecast.quantiles, volatility=forecast.volatility
    )
