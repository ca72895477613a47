"""Forecasts that need no learning to speak of: always flat, the same again, and what usually happens."""

from __future__ import annotations

import numpy as np

from training.baselines.past import past_log_return, past_realised_volatility
from training.baselines.protocol import Predict, Rows, Said, said_of_probability
from training.config import FLAT
from training.data.targets import direction_of
from training.data.training_set import TrainingSet


def always_flat(data: TrainingSet, *, seed: int) -> Predict:
    """Say flat. It gives no probabilities: nobody is that sure."""

    def predict(rows: Rows) -> Said:
        return Said(predicted=np.full(len(rows), FLAT), score=np.zeros(len(rows)))

    return predict


def persistence(data: TrainingSet, *, seed: int) -> Predict:
    """Say that the next h bars will move as the last h did, as far and as wildly."""
    config = data.manifest.config

    def predict(rows: Rows) -> Said:
        t, s = rows[:, 0], rows[:, 1]
        known = data.volatility[t, s].astype(np.float64)
        scaled = np.nan_to_num(past_log_return(data.close, rows, config.horizon) / known)
        volatility = past_realised_volatility(data.close, rows, config.horizon)
        usable = np.isfinite(volatility) & (volatility > 0)
        return Said(
            predicted=direction_of(scaled, config.flat_band),
            score=scaled,
            volatility=np.where(usable, volatility, known),
        )

    return predict


def base_rate(data: TrainingSet, *, seed: int) -> Predict:
    """Say the class shares, scaled return quantiles and mean log volatility ratio of the training rows, always."""
    outcomes = data.outcomes(data.rows["train"])
    shares = np.asarray(data.manifest.class_share["train"])
    quantiles = np.quantile(outcomes.scaled.astype(np.float64), data.manifest.config.quantiles)
    ratio = float(np.exp(np.nanmean(outcomes.log_volatility_ratio, dtype=np.float64)))

    def predict(rows: Rows) -> Said:
        known = data.volatility[rows[:, 0], rows[:, 1]].astype(np.float64)
        return said_of_probability(
            np.tile(shares, (len(rows), 1)),
            quantiles=known[:, None] * quantiles,
            volatility=known * ratio,
        )

    return predict
