"""Third kind of detector: a random forest that has learnt from planted anomalies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

NAME = "planted_forest"


def fit_forest(
    clean: NDArray[np.float32], planted: NDArray[np.float32], seed: int, trees: int = 150
) -> RandomForestClassifier:
    """Fit on (N, K) rows of past bars as they were, and (M, K) rows of onsets planted into copies of them."""
    rows = np.concatenate([clean, planted])
    labels = np.concatenate([np.zeros(len(clean), np.int8), np.ones(len(planted), np.int8)])
    forest = RandomForestClassifier(
        n_estimators=trees,
        max_depth=10,
        min_samples_leaf=5,
        class_weight="balanced_subsample",
        random_state=seed,
    )
    return forest.fit(rows, labels)


def forest_score(forest: RandomForestClassifier, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the share of votes, 0 to 1, that (N, K) rows are the onset of an anomaly.

    No probability: anomalies are far rarer than among the rows it learnt from.
    """
    return np.asarray(forest.predict_proba(features)[:, 1], np.float32)
