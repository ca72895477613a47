"""Verdicts of the controls: was skill found where there is none, and how much of a known signal was found.

Skill where there is none is told by intervals from blocks of time. A score of the whole test split is a mean of
contributions of its rows; contributions of neighbouring times and of the symbols of one time depend on each other, so
the rows are cut into blocks of `BLOCK_HORIZONS` horizons and Student's t of the block sums gives the interval (batch
means; for the AUC the contributions are those of DeLong, DeLong & Clarke-Pearson 1988). With few blocks this interval
widens as it should, where a percentile bootstrap would be far too narrow at these levels.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from training import scores
from training.config import DOWN, FLAT, UP
from training.errors import EvaluationError
from training.evaluate import BLOCK_HORIZONS

LEVEL: Final = 0.9999
"""Of the two-sided intervals. A verdict is two of them: an AUC off 0.5 on either side, or a log loss better than the
base rate, so a false alarm has a chance of about 1.5 in 10,000 a control."""

Floats = NDArray[np.floating]


class Interval(BaseModel):
    """A mean over rows with its confidence interval, from so many blocks of time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float
    blocks: int


class NoSkill(BaseModel):
    """Whether forecasts that can know nothing are seen to know nothing.

    `auc_sign` is that of evaluate; `log_loss_gain` is the base rate's log loss minus the model's, in nats a row,
    positive where the model is better.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    level: float
    auc_sign: Interval
    log_loss_gain: Interval

    @property
    def passed(self) -> bool:
        """The AUC's interval holds 0.5, and the log loss is not better than the base rate's beyond its interval."""
        return self.auc_sign.low <= 0.5 <= self.auc_sign.high and self.log_loss_gain.low <= 0


class FoundShare(BaseModel):
    """How much of the best possible information about the sign a forecast holds; bits a row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    bits: float
    bits_best: float
    share: float


def student_interval(
    values: Floats, time: NDArray[np.integer], *, block: int, level: float = LEVEL
) -> Interval:
    """Confidence interval of the mean of rows that depend on each other within blocks of time.

    Parameters
    ----------
    values
        (n,) one contribution a row.
    time
        (n,) bar of each row, rising.
    block
        Bars in a block.
    level
        Confidence, two-sided.

    Raises
    ------
    EvaluationError
        Fewer than two blocks.
    """
    from scipy.stats import t as student

    index = (time - time[0]) // block
    _, of_block = np.unique(index, return_inverse=True)
    blocks = int(of_block.max()) + 1
    if blocks < 2:
        raise EvaluationError(
            f"{len(values)} rows lie in {blocks} block of {block} bars: no interval can be told",
            where="the test split of a control",
            remedy="use a longer history, or a shorter horizon",
        )
    mean = float(values.mean())
    sums = np.bincount(of_block, values - mean)
    error = float(np.sqrt(blocks / (blocks - 1) * (sums**2).sum()) / len(values))
    half = float(student.ppf(0.5 + level / 2, blocks - 1)) * error
    return Interval(value=mean, low=mean - half, high=mean + half, blocks=blocks)


def auc_contributions(score: Floats, positive: NDArray[np.bool_]) -> Floats:
    """Contributions (n,) whose mean is the AUC and whose scatter is that of the AUC (DeLong et al. 1988).

    Raises
    ------
    EvaluationError
        Only one outcome occurs.
    """
    share = float(positive.mean())
    if not 0 < share < 1:
        raise EvaluationError(
            "all rows moved the same way",
            where="the test split of a control",
            remedy="use a longer history",
        )
    values, place = np.unique(score, return_inverse=True)
    up = np.bincount(place, positive, len(values))
    down = np.bincount(place, ~positive, len(values))
    below = (np.cumsum(down) - down / 2)[place] / down.sum()  # of the negatives, for a positive
    above = 1 - (np.cumsum(up) - up / 2)[place] / up.sum()  # of the positives, for a negative
    area = float(below[positive].mean())
    return area + np.where(positive, (below - area) / share, (above - area) / (1 - share))


def no_skill(
    probability: Floats,
    direction: NDArray[np.integer],
    log_return: Floats,
    class_share: Floats,
    time: NDArray[np.integer],
    *,
    horizon: int,
    sign_only: bool,
) -> NoSkill:
    """Judge class probabilities that cannot know anything.

    Parameters
    ----------
    probability
        (n, 3) of down, flat, up.
    direction, log_return
        (n,) outcomes, class and return.
    class_share
        (3,) of the training rows: the base rate.
    time
        (n,) bar of each row, rising.
    horizon
        Bars that a label reaches ahead.
    sign_only
        Take the log loss of up against down alone, on rows that were one of them. In a random walk the chance of
        `flat` is told, truly, by how far a measured volatility is off; which way it goes is not.
    """
    block = BLOCK_HORIZONS * horizon
    said = probability.astype(np.float64)
    moved = log_return != 0
    contributions = auc_contributions((said[:, UP] - said[:, DOWN])[moved], log_return[moved] > 0)
    judged = direction != FLAT if sign_only else np.ones(len(direction), bool)
    classes = [DOWN, UP] if sign_only else [DOWN, FLAT, UP]
    gain = _losses(np.tile(class_share, (len(said), 1)), direction, classes) - _losses(
        said, direction, classes
    )
    return NoSkill(
        rows=len(said),
        level=LEVEL,
        auc_sign=student_interval(contributions, time[moved], block=block),
        log_loss_gain=student_interval(gain[judged], time[judged], block=block),
    )


def found_share(score: Floats, best_p_up: Floats) -> FoundShare:
    """Share of the information about the sign that a score holds, where the true probabilities are known.

    The score becomes a probability q by a logistic fit to the true probabilities p. A row of the best forecast
    holds, in expectation, H(mean p) - H(p), one of this score H(mean p) + p log q + (1 - p) log(1 - q), H the
    entropy. No outcome enters, so that the luck of a test split does not either; what knows more than the generator
    (a leak) is not seen here but by the controls without signal.

    Parameters
    ----------
    score
        (n,) the higher, the likelier a rise.
    best_p_up
        (n,) true probability of a rise; rows where it is NaN are left out.

    Raises
    ------
    EvaluationError
        No rows, or nothing to be known.
    """
    known = np.isfinite(best_p_up) & np.isfinite(score)
    p, x = np.clip(best_p_up[known], scores.PROBABILITY_FLOOR, 1 - scores.PROBABILITY_FLOOR), score[known]
    if not len(p) or np.ptp(p) == 0:
        raise EvaluationError(
            f"nothing can be known about the sign of {len(p)} rows",
            where="the planted signal",
            remedy="judge a longer span of a market with a signal",
        )
    q = _logistic_fit(x, p)
    entropy = -_log_likelihood(np.full_like(p, p.mean()), p)
    found, best = entropy + _log_likelihood(q, p), entropy + _log_likelihood(p, p)
    bit = np.log(2)
    return FoundShare(rows=len(p), bits=found / bit, bits_best=best / bit, share=found / best)


def _losses(probability: Floats, outcome: NDArray[np.integer], classes: list[int]) -> Floats:
    """Log loss (n,) of the outcome among some classes; of no meaning where it is another one."""
    among = probability[:, classes].sum(axis=1)
    given = probability[np.arange(len(outcome)), outcome] / among
    return -np.log(np.clip(given, scores.PROBABILITY_FLOOR, 1))


def _logistic_fit(score: Floats, p: Floats) -> Floats:
    """Probabilities (n,) of the logistic model of a score that is closest to p."""
    from sklearn.linear_model import LogisticRegression

    spread = float(score.std())
    if spread == 0:
        return np.full_like(p, p.mean())
    x = ((score - score.mean()) / spread)[:, None]
    outcomes = np.repeat([True, False], len(p))
    fitted = LogisticRegression(C=1e6).fit(np.concatenate((x, x)), outcomes, np.concatenate((p, 1 - p)))
    q: Floats = fitted.predict_proba(x)[:, 1]
    return np.clip(q, scores.PROBABILITY_FLOOR, 1 - scores.PROBABILITY_FLOOR)


def _log_likelihood(q: Floats, p: Floats) -> float:
    """Expected log likelihood of q where p is true, nats a row."""
    return float((p * np.log(q) + (1 - p) * np.log(1 - q)).mean())
