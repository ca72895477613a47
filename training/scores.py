"""Scores of forecasts, each from arrays of (n,) outcomes; nothing here knows about models or files.

References: AUC as the Mann-Whitney statistic; Brier (1950), summed over classes, so in [0, 2]; pinball loss
(Koenker & Bassett 1978); moving blocks bootstrap over time (Kuensch 1989).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.block_interval import LEAST_BLOCKS, block_interval, blocks_of
from training.bootstrap import BlockDraws

Floats = NDArray[np.floating]

PROBABILITY_FLOOR = 1e-6
"""Probabilities are cut to at least this before a logarithm: a sure mistake costs 13.8 nats, not infinity."""


class RankedScores:
    """Scores sorted once, for the AUC under many weightings of the same rows.

    Parameters
    ----------
    score
        (n,) the higher, the more `positive` is expected; ties count half.
    positive
        (n,) bool outcome.
    """

    def __init__(self, score: Floats, positive: NDArray[np.bool_]) -> None:
        values, self._place = np.unique(score, return_inverse=True)
        self._places = len(values)
        self._positive = np.asarray(positive, bool)

    def auc(self, weight: Floats | None = None) -> float:
        """Chance that a positive outranks a negative; NaN if one of the two has no weight."""
        w = np.ones(len(self._positive)) if weight is None else weight
        up = np.bincount(self._place, w * self._positive, self._places)
        down = np.bincount(self._place, w * ~self._positive, self._places)
        pairs = up.sum() * down.sum()
        below = np.cumsum(down) - down
        return float((up * (below + down / 2)).sum() / pairs) if pairs > 0 else float("nan")


def auc(score: Floats, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve; NaN if only one outcome occurs."""
    return RankedScores(score, positive).auc()


def auc_interval(
    score: Floats,
    positive: NDArray[np.bool_],
    time: NDArray[np.int64],
    *,
    block: int,
    draws: int,
    seed: int,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Confidence interval of the AUC by a bootstrap of blocks of time.

    All symbols of one time stay together, and neighbouring times too: their outcomes are not independent.

    Parameters
    ----------
    time
        (n,) time of each row, any unit; rows of one time belong together.
    block
        Distinct times in a block; several horizons, since labels overlap over one.
    draws
        Resampled data sets.

    Returns
    -------
    (float, float) or None
        Lower and upper end, see `training.block_interval.block_interval`; None with too few blocks, or if the AUC is
        not defined.
    """
    blocks = blocks_of(time, block)
    if blocks < LEAST_BLOCKS:
        return None
    distinct, row_time = np.unique(time, return_inverse=True)
    ranked = RankedScores(score, positive)
    drawn = BlockDraws(len(distinct), block=block, draws=draws, seed=seed)
    found = np.array([ranked.auc(weight[row_time]) for weight in drawn.weights()])
    return block_interval(ranked.auc(), found, level, blocks=blocks)


def accuracy(predicted: NDArray[np.integer], outcome: NDArray[np.integer]) -> float:
    """Share of rows whose class was predicted."""
    return float((predicted == outcome).mean())


def balanced_accuracy(predicted: NDArray[np.integer], outcome: NDArray[np.integer]) -> float:
    """Mean over the classes that occur of the share predicted rightly."""
    return float(np.mean([(predicted[outcome == c] == c).mean() for c in np.unique(outcome)]))


def log_loss(probability: Floats, outcome: NDArray[np.integer]) -> float:
    """Mean -log of the probability (n, C) given to what happened, in nats."""
    given = probability[np.arange(len(outcome)), outcome]
    return float(-np.log(np.clip(given, PROBABILITY_FLOOR, 1)).mean())


def brier(probability: Floats, outcome: NDArray[np.integer]) -> float:
    """Mean squared distance of the probabilities (n, C) from what happened, summed over classes."""
    happened = np.eye(probability.shape[1])[outcome]
    return float(((probability - happened) ** 2).sum(axis=1).mean())


def pinball(quantiles: Floats, outcome: Floats, level: float) -> float:
    """Mean pinball loss of predicted quantiles (n,) at one level, in the unit of the outcome."""
    error = outcome - quantiles
    return float(np.maximum(level * error, (level - 1) * error).mean())


def coverage(low: Floats, high: Floats, outcome: Floats) -> float:
    """Share of outcomes inside [low, high]."""
    return float(((outcome >= low) & (outcome <= high)).mean())
