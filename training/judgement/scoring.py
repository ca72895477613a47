"""Scores with intervals of several forecasts on one sample, and what their paired differences say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from training.baselines.protocol import Said
from training.block_interval import block_interval
from training.bootstrap import BlockDraws, Statistic
from training.judgement.results import Difference, Figure, Scores, Verdict
from training.judgement.sample import Floats
from training.judgement.statistics import HIGHER_IS_BETTER, Statistics

COMPARED = (
    "balanced_accuracy",
    "auc_sign",
    "log_loss",
    "brier",
    "pinball",
    "rank_ic",
    "net_bps",
    "volatility_r2",
    "volatility_log_r2",
    "volatility_qlike",
)
"""The main scores, by which forecasts are compared."""

Drawn = dict[str, Floats]


def scored(statistics: Statistics, draws: BlockDraws, level: float, *, blocks: int) -> tuple[Scores, Drawn]:
    """Values and intervals of scores, and their draws; `blocks` as `block_interval` takes it."""
    scores: Scores = {}
    drawn: Drawn = {}
    names = [name for name in HIGHER_IS_BETTER if name in statistics]
    if not names:
        return scores, drawn
    columns = [statistics[name].columns for name in names]
    sums = draws.sums(np.concatenate(columns, axis=1))
    ends = np.cumsum([part.shape[1] for part in columns])
    for name, part in zip(names, np.split(sums, ends[:-1], axis=1), strict=True):
        statistic = statistics[name]
        value = statistic.value
        if not math.isfinite(value):
            continue
        drawn[name] = _moved(statistic, statistic.finish(part))
        scores[name] = figure(value, drawn[name], level, blocks=blocks)
    return scores, drawn


def figure(value: float, draws: Floats, level: float, *, blocks: int) -> Figure:
    """Put a value and the interval of its draws together."""
    low, high = block_interval(value, draws, level, blocks=blocks) or (None, None)
    return Figure(value=value, low=low, high=high)


def differences(
    forecaster: str,
    scores: Mapping[str, Scores],
    drawn: Mapping[str, Drawn],
    folds: Iterable[Mapping[str, Scores]],
    level: float,
    *,
    blocks: int,
) -> tuple[Difference, ...]:
    """Compare the forecaster with every other forecast, by each of the main scores that both have."""
    by_fold = list(folds)
    found = []
    for other in scores:
        for name in COMPARED:
            if other == forecaster or name not in scores[forecaster] or name not in scores[other]:
                continue
            sign = 1.0 if HIGHER_IS_BETTER[name] else -1.0
            value = sign * (scores[forecaster][name].value - scores[other][name].value)
            told = figure(value, sign * (drawn[forecaster][name] - drawn[other][name]), level, blocks=blocks)
            both = [fold for fold in by_fold if name in fold[forecaster] and name in fold[other]]
            better = sum(sign * (fold[forecaster][name].value - fold[other][name].value) > 0 for fold in both)
            found.append(
                Difference(
                    baseline=other,
                    score=name,
                    figure=told,
                    verdict=_verdict(told),
                    folds_better=better,
                    folds=len(both),
                )
            )
    return tuple(found)


def only(said: Said, mine: np.ndarray) -> Said:
    """What is said about some of the rows."""
    return Said(*(None if values is None else values[mine] for values in said))


def joined(parts: Iterable[Said]) -> Said:
    """What is said about the rows of several folds; nothing about what one of them is silent on."""
    columns = zip(*parts, strict=True)
    return Said(*(None if any(v is None for v in column) else np.concatenate(column) for column in columns))


def _verdict(told: Figure) -> Verdict:
    if told.low is not None and told.low > 0:
        return "better"
    if told.high is not None and told.high < 0:
        return "worse"
    return "cannot be told"


def _moved(statistic: Statistic, draws: Floats) -> Floats:
    """Take the upward shift of draws off, as far as there is one and zero allows."""
    if not statistic.upward:
        return draws
    return np.maximum(draws - (np.nanmean(draws) - statistic.value), 0.0)
