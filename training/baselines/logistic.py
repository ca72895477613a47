"""Logistic regression of the direction on the last bar and a few before it."""

from __future__ import annotations

import numpy as np

from training import scores
from training.baselines.lagged import lagged_features, learned_rows, pieces
from training.baselines.protocol import Floats, Predict, Rows, Said, said_of_probability
from training.config import CLASSES
from training.data.training_set import TrainingSet

STRENGTHS = (1e-4, 1e-3, 1e-2)
"""Inverse strengths of the L2 penalty; the one with the least log loss on the validation rows is taken."""


def logistic(data: TrainingSet, *, seed: int) -> Predict:
    """Fit a multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    x, outcomes = learned_rows(data, "train")
    unseen, asked = learned_rows(data, "validation")
    with threadpool_limits(1):  # many small products: threads would only wait for each other
        fitted = [
            LogisticRegression(C=strength, max_iter=100, tol=1e-3).fit(x, outcomes.direction)
            for strength in STRENGTHS
        ]
    losses = [scores.log_loss(_all_classes(model, unseen), asked.direction) for model in fitted]
    best = fitted[int(np.argmin(losses))]

    def predict(rows: Rows) -> Said:
        parts = [_all_classes(best, lagged_features(data, piece)) for piece in pieces(rows)]
        return said_of_probability(np.concatenate(parts))

    return predict


def _all_classes(model: object, x: Floats) -> Floats:
    """Probabilities (n, 3), 0 for a class that never occurred in training."""
    found = np.zeros((len(x), len(CLASSES)))
    found[:, model.classes_] = model.predict_proba(x)  # type: ignore[attr-defined]
    return found
