"""The baselines by name, in the order in which they are shown."""

from __future__ import annotations

from typing import Final

from training.baselines.boosting import boosting
from training.baselines.boosting import unusable as boosting_unusable
from training.baselines.har import har, har_log
from training.baselines.logistic import logistic
from training.baselines.protocol import Baseline, Predict
from training.baselines.trivial import always_flat, base_rate, persistence
from training.data.training_set import TrainingSet
from training.errors import EvaluationError


def _plain_lstm(data: TrainingSet, *, seed: int) -> Predict:
    from training.baselines.plain_lstm import plain_lstm  # needs Keras, the others do not

    return plain_lstm(data, seed=seed)


BASELINES: Final[dict[str, Baseline]] = {
    "always_flat": always_flat,
    "persistence": persistence,
    "base_rate": base_rate,
    "logistic": logistic,
    "boosting": boosting,
    "plain_lstm": _plain_lstm,
    "har": har,
    "har_log": har_log,
}


def unusable(name: str) -> str | None:
    """Say why a baseline cannot be made on this machine, None if it can."""
    return boosting_unusable() if name == "boosting" else None


def baseline(name: str) -> Baseline:
    """Look a baseline up.

    Raises
    ------
    EvaluationError
        There is none of this name.
    """
    if name not in BASELINES:
        raise EvaluationError(
            f"there is no baseline {name}",
            where="the baselines of a judgement",
            remedy=f"choose among {', '.join(BASELINES)}",
        )
    return BASELINES[name]
