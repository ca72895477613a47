"""The last bar and a few before it as one row of a table, for baselines that know no windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.baselines.protocol import Rows
from training.data.dataset import evenly
from training.data.training_set import Outcomes, TrainingSet

LAGS = (0, 1, 2, 5)
"""Bars back, as far as the window reaches."""
CHUNK_ROWS = 50_000


def lagged_features(data: TrainingSet, rows: Rows) -> NDArray[np.float32]:
    """Standardised features (n, lags * F) of the bars t - lag of rows (t, s)."""
    normalisation = data.manifest.normalisation
    mean, std = np.asarray(normalisation.mean, np.float32), np.asarray(normalisation.std, np.float32)
    t, s = rows[:, 0], rows[:, 1]
    lags = [lag for lag in LAGS if lag < data.manifest.config.window]
    parts = [
        np.clip((data.features[s, t - lag] - mean) / std, -normalisation.clip, normalisation.clip)
        for lag in lags
    ]
    return np.concatenate(parts, axis=1)


def pieces(rows: Rows) -> Iterator[Rows]:
    """Cut rows into pieces whose tables fit into memory."""
    for start in range(0, len(rows), CHUNK_ROWS):
        yield rows[start : start + CHUNK_ROWS]


def learned_rows(data: TrainingSet, split: str) -> tuple[NDArray[np.float32], Outcomes]:
    """Table and outcomes of the training rows, or of the validation rows that the forecaster is judged by too."""
    config = data.manifest.config
    rows = data.rows[split]
    if split == "validation":
        rows = rows[evenly(len(rows), config.validation_windows, config.seed)]
    return lagged_features(data, rows), data.outcomes(rows)
