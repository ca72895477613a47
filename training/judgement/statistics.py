"""The scores of one forecast on one sample, each as sums over time (see training/bootstrap.py).

Definitions are those of training/scores.py; besides them:

- `ece`, expected calibration error: mean over the three classes of the mean over bins of |frequency - probability|,
  each bin weighed by its rows; bins hold equally many rows (Nixon et al. 2019, adaptive, per class);
- `rank_ic`, mean over bars of the Spearman correlation across symbols of score and return; `rank_ic_time`, the same
  over time per symbol, averaged over rows;
- `volatility_r2`, 1 - squared error / squared deviation from the symbol's own mean in the sample, so that knowing which
  symbols are wild earns nothing; `volatility_log_r2`, the same of logarithms;
- `volatility_qlike`, mean of r - log r - 1 with r = (realised / forecast)^2 (Patton 2011);
- `gross_bps`, `net_bps`, `turnover`: means per holding period, in 1/10,000 and in shares of the capital;
  `sharpe_net`: mean over deviation of net returns, per year (training/judgement/strategy.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training import scores
from training.baselines.protocol import Said
from training.bootstrap import Statistic
from training.config import CLASSES
from training.controls.verdicts import auc_contributions
from training.judgement.ranks import across_symbols, over_time
from training.judgement.sample import Floats, Sample

HIGHER_IS_BETTER: Final = {
    "accuracy": True,
    "balanced_accuracy": True,
    "auc_sign": True,
    "log_loss": False,
    "brier": False,
    "ece": False,
    "pinball": False,
    "coverage": None,
    "rank_ic": True,
    "rank_ic_time": True,
    "volatility_r2": True,
    "volatility_log_r2": True,
    "volatility_qlike": False,
    "gross_bps": True,
    "net_bps": True,
    "turnover": None,
    "sharpe_net": True,
}
"""All scores in the order in which they are shown; None: neither, it should be near a nominal value or is a cost."""

Statistics = dict[str, Statistic]


def ratio(sums: Floats) -> Floats:
    """First sum over the second."""
    return _divide(sums[..., 0], sums[..., 1])


def statistics_of(sample: Sample, said: Said, edges: list[Floats] | None) -> Statistics:
    """Scores of what is said about the rows of a sample; those that it does not allow are left out.

    Parameters
    ----------
    edges
        Inner edges of the calibration bins per class, from `bin_edges`.
    """
    found: Statistics = {}
    if said.predicted is not None:
        found |= _of_classes(sample, said.predicted)
    if said.score is not None:
        found |= _of_scores(sample, said.score)
    if said.probability is not None and edges is not None:
        found |= _of_probabilities(sample, said.probability, edges)
    if said.quantiles is not None:
        found |= _of_quantiles(sample, said.quantiles)
    if said.volatility is not None:
        found |= _of_volatility(sample, said.volatility)
    return found


def trading_statistics(
    gross: Floats, turnover: Floats, net: Floats, there: Floats, periods_per_year: float
) -> Statistics:
    """Scores of a strategy from its figures (times,) per bar; `there` is 1 where a holding period begins, else 0."""
    return {
        "gross_bps": Statistic(np.column_stack([1e4 * gross, there]), ratio),
        "net_bps": Statistic(np.column_stack([1e4 * net, there]), ratio),
        "turnover": Statistic(np.column_stack([turnover, there]), ratio),
        "sharpe_net": Statistic(np.column_stack([net, net**2, there]), _sharpe(periods_per_year)),
    }


def bin_edges(probability: Floats, bins: int) -> list[Floats]:
    """Inner edges per class of bins that hold equally many rows; fewer where many rows are alike."""
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    return [np.unique(np.quantile(column, inner)) for column in probability.T]


def bin_columns(sample: Sample, probability: Floats, edges: Floats, label: int) -> Floats:
    """Per bar (times, 3 * bins): rows, probability and frequency of a class, summed in each bin."""
    bins = len(edges) + 1
    index = np.searchsorted(edges, probability, side="left")
    cell = sample.place * bins + index
    came = (sample.direction == label).astype(np.float64)
    sums = [
        np.bincount(cell, weights, sample.times * bins).reshape(sample.times, bins)
        for weights in (None, probability, came)
    ]
    return np.concatenate(sums, axis=1)


def _of_classes(sample: Sample, predicted: NDArray[np.integer]) -> Statistics:
    right = (predicted == sample.direction).astype(np.float64)
    of_class = [(sample.direction == label).astype(np.float64) for label in range(len(CLASSES))]
    balanced = sample.per_time(*(right * one for one in of_class), *of_class)
    return {
        "accuracy": Statistic(sample.per_time(right, np.ones(len(sample))), ratio),
        "balanced_accuracy": Statistic(balanced, _mean_of_ratios),
    }


def _of_scores(sample: Sample, score: Floats) -> Statistics:
    found: Statistics = {}
    moved = sample.log_return != 0
    up = sample.log_return[moved] > 0
    if up.any() and not up.all():
        part = np.zeros(len(sample))
        part[moved] = auc_contributions(score[moved], up)
        found["auc_sign"] = Statistic(sample.per_time(part, moved.astype(np.float64)), ratio)
    if len(score) and np.ptp(score) > 0:
        correlation, known = across_symbols(sample, score)
        if known.any():
            found["rank_ic"] = Statistic(np.column_stack([correlation, known]), ratio)
        found["rank_ic_time"] = Statistic(
            sample.per_time(over_time(sample, score), np.ones(len(sample))), ratio
        )
    return found


def _of_probabilities(sample: Sample, probability: Floats, edges: list[Floats]) -> Statistics:
    rows, one = np.arange(len(sample)), np.ones(len(sample))
    loss = -np.log(np.clip(probability[rows, sample.direction], scores.PROBABILITY_FLOOR, 1))
    distance = ((probability - np.eye(len(CLASSES))[sample.direction]) ** 2).sum(axis=1)
    off = []
    for label, inner in enumerate(edges):
        _, said, came = np.split(bin_columns(sample, probability[:, label], inner, label), 3, axis=1)
        off.append(came - said)
    return {
        "log_loss": Statistic(sample.per_time(loss, one), ratio),
        "brier": Statistic(sample.per_time(distance, one), ratio),
        "ece": Statistic(np.concatenate([*off, sample.per_time(one)], axis=1), _ece, upward=True),
    }


def _of_quantiles(sample: Sample, quantiles: Floats) -> Statistics:
    scaled, outcome = quantiles / sample.volatility[:, None], sample.log_return / sample.volatility
    error = outcome[:, None] - scaled
    levels = np.asarray(sample.levels)
    loss = np.maximum(levels * error, (levels - 1) * error).mean(axis=1)
    inside = ((outcome >= scaled[:, 0]) & (outcome <= scaled[:, -1])).astype(np.float64)
    one = np.ones(len(sample))
    return {
        "pinball": Statistic(sample.per_time(loss, one), ratio),
        "coverage": Statistic(sample.per_time(inside, one), ratio),
    }


def _of_volatility(sample: Sample, volatility: Floats) -> Statistics:
    came = sample.realised_volatility
    known = np.isfinite(came) & np.isfinite(volatility) & (volatility > 0)
    if not known.any():
        return {}
    came, said = np.where(known, came, 1.0), np.where(known, volatility, 1.0)
    r = (came / said) ** 2
    qlike = np.where(known, r - np.log(r) - 1, 0.0)
    return {
        "volatility_r2": _r2(sample, came, said, known),
        "volatility_log_r2": _r2(sample, np.log(came), np.log(said), known),
        "volatility_qlike": Statistic(sample.per_time(qlike, known.astype(np.float64)), ratio),
    }


def _r2(sample: Sample, came: Floats, said: Floats, known: NDArray[np.bool_]) -> Statistic:
    weight = known.astype(np.float64)
    count = np.bincount(sample.symbol, weight, sample.symbols)
    mean = np.bincount(sample.symbol, weight * came, sample.symbols) / np.maximum(count, 1)
    error, spread = (came - said) ** 2, (came - mean[sample.symbol]) ** 2
    return Statistic(sample.per_time(weight * error, weight * spread), lambda sums: 1 - ratio(sums))


def _mean_of_ratios(sums: Floats) -> Floats:
    half = sums.shape[-1] // 2
    right, there = sums[..., :half], sums[..., half:]
    occurs = there > 0
    shares = np.where(occurs, right / np.where(occurs, there, 1), 0.0)
    return _divide(shares.sum(axis=-1), occurs.sum(axis=-1))


def _ece(sums: Floats) -> Floats:
    return _divide(np.abs(sums[..., :-1]).sum(axis=-1) / len(CLASSES), sums[..., -1])


def _sharpe(periods_per_year: float) -> Callable[[Floats], Floats]:
    def sharpe(sums: Floats) -> Floats:
        mean = _divide(sums[..., 0], sums[..., 2])
        variance = _divide(sums[..., 1], sums[..., 2]) - mean**2
        return _divide(mean * np.sqrt(periods_per_year), np.sqrt(np.maximum(variance, 0.0)))

    return sharpe


def _divide(a: Floats, b: Floats) -> Floats:
    """Return a / b, NaN where b is not positive."""
    b = np.asarray(b, np.float64)
    return np.where(b > 0, a / np.where(b > 0, b, 1.0), np.nan)
