"""Second kind of detector: an isolation forest, which asks how easily a bar is set apart from past ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

NAME = "isolation_forest"


def fit_isolation(features: NDArray[np.float32], seed: int, trees: int = 200) -> IsolationForest:
    """Fit on (N, K) rows of past bars (Liu, Ting and Zhou, "Isolation Forest", 2008; 256 rows a tree)."""
    return IsolationForest(n_estimators=trees, max_samples=min(256, len(features)), random_state=seed).fit(
        features
    )


def isolation_score(forest: IsolationForest, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the anomaly score of (N, K) rows, between 0 and 1; about 0.5 is usual, near 1 is alone."""
    return np.asarray(-forest.score_samples(features), np.float32)
