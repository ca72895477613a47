"""Gradient boosted trees (LightGBM) on the last bar and a few before it: direction, quantiles and volatility."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.baselines.lagged import lagged_features, learned_rows, pieces
from training.baselines.openmp import import_lightgbm
from training.baselines.protocol import Floats, Predict, Rows, Said, said_of_probability
from training.config import CLASSES
from training.data.training_set import TrainingSet

ROUNDS, PATIENCE = 300, 30
SETTINGS = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 63,
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
}
"""Small, slow and strongly regularised: what suits data that is nearly all noise."""


def unusable() -> str | None:
    """Say why LightGBM cannot be used on this machine, if so: its wheel needs a library of the system."""
    try:
        import_lightgbm()
    except OSError as error:
        return f"LightGBM cannot be loaded: {error}; Debian has libgomp.so.1 in the package libgomp1"
    return None


def boosting(data: TrainingSet, *, seed: int) -> Predict:
    """Fit one booster per output, each stopped where the loss on the validation rows is least."""
    x, learned = learned_rows(data, "train")
    unseen, asked = learned_rows(data, "validation")
    levels = data.manifest.config.quantiles

    def fit(objective: dict[str, Any], target: NDArray[Any], check: NDArray[Any]) -> Any:
        return _fit((x, target), (unseen, check), {**objective, "seed": seed})

    direction = fit(
        {"objective": "multiclass", "num_class": len(CLASSES)}, learned.direction, asked.direction
    )
    quantiles = [
        fit({"objective": "quantile", "alpha": level}, learned.scaled, asked.scaled) for level in levels
    ]
    volatility = fit({"objective": "regression"}, learned.log_volatility_ratio, asked.log_volatility_ratio)

    def predict(rows: Rows) -> Said:
        parts = [_predict(piece) for piece in pieces(rows)]
        probability, scaled, ratio = (np.concatenate(part) for part in zip(*parts, strict=True))
        known = data.volatility[rows[:, 0], rows[:, 1]].astype(np.float64)
        return said_of_probability(
            probability, quantiles=known[:, None] * scaled, volatility=known * np.exp(ratio)
        )

    def _predict(rows: Rows) -> tuple[Floats, Floats, Floats]:
        table = lagged_features(data, rows)
        scaled = np.column_stack([booster.predict(table) for booster in quantiles])
        return direction.predict(table), np.sort(scaled, axis=1), volatility.predict(table)

    return predict


def _fit(
    learned: tuple[Floats, NDArray[Any]], asked: tuple[Floats, NDArray[Any]], settings: dict[str, Any]
) -> Any:
    """Boost until the validation loss has not fallen for `PATIENCE` rounds; rows without a target are left out."""
    lightgbm = import_lightgbm()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(
        1, cores // 2
    )  # they wait for each other at every split, which is slow where others compute too
    parameters = {**SETTINGS, **settings, "num_threads": threads}
    parameters["min_data_in_leaf"] = max(1, min(SETTINGS["min_data_in_leaf"], len(learned[0]) // 20))
    train, check = (
        lightgbm.Dataset(x[np.isfinite(y)], y[np.isfinite(y)], params=parameters) for x, y in (learned, asked)
    )
    return lightgbm.train(
        parameters,
        train,
        ROUNDS,
        valid_sets=[check.set_reference(train)],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
