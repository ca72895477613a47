"""Judging a forecaster on rows it has not seen, beside forecasts that need no model.

Baselines, all known at t:

- `always_flat` says flat.
- `base_rate` says the class shares and the scaled return quantiles of the training split, for every row.
- `persistence` says that the class of the last h bars will be that of the next h.

Direction skill is told by the AUC of the sign: over rows whose return is not zero, does p_up - p_down rank
rises above falls? 0.5 is chance. Pinball losses and coverage are of returns in units of volatility, so that
wild and quiet markets weigh the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training import scores
from training.config import CLASSES, DOWN, FLAT, UP
from training.data.targets import direction_of
from training.data.training_set import Outcomes, TrainingSet
from training.errors import EvaluationError
from training.progress import Counted

PREDICT_BATCH = 2048
BLOCK_HORIZONS = 8
"""Bootstrap blocks span this many horizons."""
BOOTSTRAP_DRAWS = 200

Metrics = dict[str, Any]


class Forecast(NamedTuple):
    """What a model says about some rows."""

    direction: NDArray[np.floating]
    """(n, 3) probabilities of down, flat, up."""
    quantiles: NDArray[np.floating]
    """(n, Q) log-return quantiles."""
    volatility: NDArray[np.floating] | None = None
    """(n,) realised volatility over the horizon; None where a forecast says nothing about it."""


PredictFn = Callable[[NDArray[np.float32]], Forecast]
"""Windows (n, window, F) to a forecast."""


def keras_predict_fn(model: Any) -> PredictFn:
    """Forecasts of a loaded Keras model, one graph for any number of windows."""

    def predict(windows: NDArray[np.float32]) -> Forecast:
        said = model.predict_on_batch(windows)
        return Forecast(
            np.asarray(said["direction"]), np.asarray(said["quantiles"]), np.asarray(said["volatility"])[:, 0]
        )

    return predict


def forecast(
    predict_fn: PredictFn, training_set: TrainingSet, split: str, progress: Counted | None = None
) -> Forecast:
    """Forecasts for all rows of a split, in their order, one batch of windows in memory at a time.

    `progress` is told after each batch how many windows of how many have been asked about.
    """
    parts, done = [], 0
    for batch in training_set.batches(split, PREDICT_BATCH):
        parts.append(predict_fn(batch.windows))
        done += len(batch.windows)
        if progress is not None:
            progress(done, len(training_set.rows[split]))
    volatility = [part.volatility for part in parts if part.volatility is not None]
    return Forecast(
        np.concatenate([part.direction for part in parts]),
        np.concatenate([part.quantiles for part in parts]),
        np.concatenate(volatility) if len(volatility) == len(parts) else None,
    )


def evaluate(
    predictions: PredictFn | Forecast,
    training_set: TrainingSet,
    split: str = "test",
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> Metrics:
    """Judge forecasts for a split.

    Parameters
    ----------
    predictions
        A function from windows to forecasts, or the forecasts for all rows of the split in their order.
    training_set, split
        Where the outcomes are taken from.
    draws, seed
        Resampled data sets for the intervals, and their seed.

    Returns
    -------
    dict
        Ready for JSON: `split`, `rows`, `class_share`, and under `model`, `always_flat`, `base_rate` and
        `persistence` the scores of each. A score that a forecast does not allow is None.

    Raises
    ------
    EvaluationError
        The arrays do not fit the split, or forecasts are not finite.
    """
    rows = training_set.rows[split]
    said = forecast(predictions, training_set, split) if callable(predictions) else predictions
    _check(said, training_set, split)
    judge = _Judge(training_set, split, draws, seed)
    n = len(rows)
    flat = np.tile(np.eye(len(CLASSES))[FLAT], (n, 1))
    rate = _base_rate(training_set)
    rate = Forecast(np.tile(rate.direction, (n, 1)), np.tile(rate.quantiles, (n, 1)))
    past = _past_scaled_return(training_set, rows)
    return {
        "split": split,
        "rows": n,
        "class_share": dict(zip(CLASSES, training_set.manifest.class_share[split], strict=True)),
        "model": judge.direction(said.direction) | judge.quantiles(said.quantiles),
        "base_rate": judge.direction(rate.direction)
        | judge.quantiles(rate.quantiles * judge.outcomes.volatility[:, None]),
        "always_flat": judge.direction(flat) | {"log_loss": None, "brier": None},
        "persistence": judge.classes(_class_of(past, training_set)) | judge.sign(past),
    }


class _Judge:
    """Scores against the outcomes of one split."""

    def __init__(self, training_set: TrainingSet, split: str, draws: int, seed: int) -> None:
        config = training_set.manifest.config
        self.outcomes: Outcomes = training_set.outcomes(training_set.rows[split])
        self.levels = config.quantiles
        self.time = training_set.rows[split][:, 0].astype(np.int64)
        self.bootstrap = {"block": BLOCK_HORIZONS * config.horizon, "draws": draws, "seed": seed}

    def direction(self, probability: NDArray[np.floating]) -> Metrics:
        """Scores of class probabilities."""
        said = probability.astype(np.float64)
        return {
            **self.classes(said.argmax(axis=1)),
            **self.sign(said[:, UP] - said[:, DOWN]),
            "log_loss": scores.log_loss(said, self.outcomes.direction),
            "brier": scores.brier(said, self.outcomes.direction),
        }

    def classes(self, predicted: NDArray[np.integer]) -> Metrics:
        """Scores of a class per row."""
        return {
            "accuracy": scores.accuracy(predicted, self.outcomes.direction),
            "balanced_accuracy": scores.balanced_accuracy(predicted, self.outcomes.direction),
        }

    def sign(self, score: NDArray[np.floating]) -> Metrics:
        """AUC of the sign of the return, with its interval; None where there are too few blocks for one."""
        moved = self.outcomes.log_return != 0
        up = self.outcomes.log_return[moved] > 0
        found = scores.auc(score[moved], up)
        interval = scores.auc_interval(score[moved], up, self.time[moved], **self.bootstrap)
        return {
            "auc_sign": None if np.isnan(found) else found,
            "auc_sign_interval": None if interval is None else list(interval),
        }

    def quantiles(self, returns: NDArray[np.floating]) -> Metrics:
        """Scores of return quantiles (n, Q)."""
        scaled, outcome = returns / self.outcomes.volatility[:, None], self.outcomes.scaled
        losses = [scores.pinball(scaled[:, i], outcome, level) for i, level in enumerate(self.levels)]
        return {
            "pinball": float(np.mean(losses)),
            "pinball_by_quantile": {str(q): loss for q, loss in zip(self.levels, losses, strict=True)},
            "coverage": scores.coverage(scaled[:, 0], scaled[:, -1], outcome),
            "coverage_nominal": self.levels[-1] - self.levels[0],
        }


def skill_against_best(
    score: NDArray[np.floating], best_p_up: NDArray[np.floating], realised_return: NDArray[np.floating]
) -> Metrics:
    """Share of the best possible skill that a model has, where the best is known from a market's generator.

    Parameters
    ----------
    score
        (n,) p_up - p_down of the model.
    best_p_up
        (n,) true probability that the return over the horizon is positive, given all the generator knows.
    realised_return
        (n,) the return that came; rows without a return (NaN) or with none at all (0) are left out.

    Returns
    -------
    dict
        `auc`, `auc_best`, `share_of_auc` = (auc - 0.5) / (auc_best - 0.5); `bits`, `bits_best` = information
        about the sign per row after a logistic fit of each score, `share_of_bits`; `rows`. A share is None
        where the best has no skill either.

    Raises
    ------
    EvaluationError
        No rows are left, or their returns all have one sign.
    """
    given = (
        np.isfinite(score) & np.isfinite(best_p_up) & np.isfinite(realised_return) & (realised_return != 0)
    )
    up = realised_return[given] > 0
    if not given.any() or up.all() or not up.any():
        raise EvaluationError(
            f"skill cannot be told from {int(given.sum())} rows that all moved the same way",
            where="skill_against_best",
            remedy="judge a longer span",
        )
    clipped = np.clip(best_p_up[given], scores.PROBABILITY_FLOOR, 1 - scores.PROBABILITY_FLOOR)
    best = np.log(clipped / (1 - clipped))
    found = {
        "auc": scores.auc(score[given], up),
        "auc_best": scores.auc(best, up),
        "bits": information_bits(score[given], up),
        "bits_best": information_bits(best, up),
    }
    return {
        "rows": int(given.sum()),
        **found,
        "share_of_auc": _share(found["auc"] - 0.5, found["auc_best"] - 0.5),
        "share_of_bits": _share(found["bits"], found["bits_best"]),
    }


def information_bits(score: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Bits per row that a score tells of a yes-or-no outcome: entropy of the outcome - log loss, both base 2.

    The score is turned into a probability by a logistic fit to the same rows. Its slope is one parameter
    learned from n rows, which gains 1 / (2 n ln 2) bits by chance; that much is taken off.
    """
    from sklearn.linear_model import LogisticRegression

    spread = float(np.std(score))
    if spread == 0:
        return 0.0
    standard = ((score - np.mean(score)) / spread)[:, None]
    p = LogisticRegression(C=1e6).fit(standard, positive).predict_proba(standard)
    rate = np.array([1 - positive.mean(), positive.mean()])
    entropy = scores.log_loss(np.tile(rate, (len(positive), 1)), positive.astype(int))
    loss = scores.log_loss(p, positive.astype(int))
    return float((entropy - loss - 1 / (2 * len(positive))) / np.log(2))


def _share(found: float, best: float) -> float | None:
    return found / best if best > 0 else None


def _base_rate(training_set: TrainingSet) -> Forecast:
    """Class shares and scaled return quantiles of the training split."""
    scaled = training_set.outcomes(training_set.rows["train"]).scaled
    shares = np.asarray(training_set.manifest.class_share["train"])
    return Forecast(shares, np.quantile(scaled.astype(np.float64), training_set.manifest.config.quantiles))


def _past_scaled_return(training_set: TrainingSet, rows: NDArray[np.integer]) -> NDArray[np.floating]:
    """Return of the last h bars in units of volatility; 0 where the bar before them is missing."""
    h, t, s = training_set.manifest.config.horizon, rows[:, 0], rows[:, 1]
    before = np.where(t >= h, training_set.close[np.maximum(t - h, 0), s], np.nan)
    past = np.log(training_set.close[t, s] / before) / training_set.volatility[t, s]
    return np.nan_to_num(past, nan=0.0, posinf=0.0, neginf=0.0)


def _class_of(scaled: NDArray[np.floating], training_set: TrainingSet) -> NDArray[np.integer]:
    return direction_of(scaled, training_set.manifest.config.flat_band)


def _check(said: Forecast, training_set: TrainingSet, split: str) -> None:
    n = len(training_set.rows[split])
    expected = ((n, len(CLASSES)), (n, len(training_set.manifest.config.quantiles)))
    if (said.direction.shape, said.quantiles.shape) != expected:
        problem = f"forecasts of shape {said.direction.shape} and {said.quantiles.shape}, expected {expected}"
    elif said.volatility is not None and said.volatility.shape != (n,):
        problem = f"volatility forecasts of shape {said.volatility.shape}, expected {(n,)}"
    elif said.volatility is not None and not (np.isfinite(said.volatility) & (said.volatility > 0)).all():
        problem = "volatility forecasts that are not positive numbers"
    elif not (np.isfinite(said.direction).all() and np.isfinite(said.quantiles).all()):
        problem = "forecasts that are not finite"
    else:
        return
    raise EvaluationError(
        problem, where=f"split {split}", remedy="use forecasts of this training set's model"
    )
