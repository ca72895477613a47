"""Calibration of a trained forecaster on the validation split: what it says so often is to come so often.

Three corrections, few numbers each, so that little can be learned by heart; they are part of the graph:

- direction: softmax(logits / temperature), the temperature with the least log loss (Guo et al. 2017). The order of
  the classes, and so the predicted one, stays;
- quantiles: the steps from the middle quantile outwards are stretched, from the inside to the outside, until each
  quantile lies above the share of the returns that its level says. Steps stay positive: quantiles cannot cross;
- volatility: times the mean of came / said, so that this is 1. The network minimises squared errors of the logarithm
  and by itself forecasts the centre of a skewed distribution, which is below its mean. Every row weighs the same: least
  squares would be fitted to a few wild hours of the wildest symbols, where forecasts tend to be too high.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from training.config import Calibration

Floats = NDArray[np.floating]

LEAST_ROWS = 100
"""With fewer rows than this nothing is corrected: the corrections would be noise."""
TEMPERATURES = (0.05, 20.0)
STEP_SCALES = (0.1, 10.0)
VOLATILITY_FACTORS = (0.1, 10.0)


def fit_calibration(
    logits: Floats,
    quantiles: Floats,
    volatility: Floats,
    *,
    direction: NDArray[np.integer],
    scaled_return: Floats,
    realised_volatility: Floats,
    levels: Sequence[float],
) -> Calibration:
    """Fit the corrections to what an uncalibrated forecaster said and what came.

    Parameters
    ----------
    logits
        (n, 3) of the direction.
    quantiles
        (n, Q) of the return in any unit, rising.
    volatility
        (n,) forecasts in any unit.
    direction
        (n,) classes that came.
    scaled_return, realised_volatility
        (n,) what came, in the units of the forecasts; rows whose realised volatility is NaN do not count for it.
    levels
        Q levels of the quantiles.

    Returns
    -------
    Calibration
        The same for the same arrays, to the last bit; one that changes nothing if there are fewer than
        `LEAST_ROWS` rows.
    """
    if len(logits) < LEAST_ROWS:
        return Calibration()
    known = np.isfinite(realised_volatility)
    return Calibration(
        temperature=fit_temperature(logits, direction),
        step_scales=fit_step_scales(quantiles, scaled_return, levels),
        volatility_factor=fit_volatility_factor(volatility[known], realised_volatility[known]),
        rows=len(logits),
    )


def fit_temperature(logits: Floats, outcome: NDArray[np.integer]) -> float:
    """Temperature with the least log loss of outcomes (n,) under logits (n, C).

    The loss is convex in the inverse temperature, which is searched by Brent's method inside `TEMPERATURES`.
    """
    said, row = np.asarray(logits, np.float64), np.arange(len(outcome))

    def loss(inverse: float) -> float:
        return -float(log_softmax(said * inverse, axis=1)[row, outcome].mean())

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-7})
    return 1 / float(found.x)


def fit_step_scales(quantiles: Floats, outcome: Floats, levels: Sequence[float]) -> tuple[float, ...]:
    """Factors (Q - 1,) of the steps between quantiles, so that each level covers its share of outcomes (n,).

    From the middle quantile outwards, each step is measured from the quantile before it as it already is
    corrected: (outcome - quantile before) / step is below the factor as often as the outcome is below the
    corrected quantile. So the factor is a quantile of that ratio, at the same level.
    """
    said, came = np.asarray(quantiles, np.float64), np.asarray(outcome, np.float64)
    middle = said.shape[1] // 2
    scales = np.ones(said.shape[1] - 1)
    for outwards in (range(middle - 1, -1, -1), range(middle + 1, said.shape[1])):
        before = said[:, middle]
        for i in outwards:
            neighbour = i + 1 if i < middle else i - 1
            step = np.abs(said[:, i] - said[:, neighbour])
            sign, level = (-1, 1 - levels[i]) if i < middle else (1, levels[i])
            ratio = sign * (came - before) / np.maximum(step, np.finfo(np.float64).tiny)
            scale = float(np.clip(np.quantile(ratio, level), *STEP_SCALES))
            scales[min(i, neighbour)] = scale
            before = before + sign * scale * step
    return tuple(scales.tolist())


def fit_volatility_factor(forecast: Floats, realised: Floats) -> float:
    """Mean of r = realised / forecast, both (n,), over the rows whose forecast is positive.

    It is the factor c with the least mean of r / c - log(r / c) - 1.
    """
    said, came = np.asarray(forecast, np.float64), np.asarray(realised, np.float64)
    there = said > 0
    return float(np.clip((came[there] / said[there]).mean(), *VOLATILITY_FACTORS)) if there.any() else 1.0
