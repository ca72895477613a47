"""Rank correlations of scores with returns: across symbols at a time, and over time for a symbol (Spearman)."""

from __future__ import annotations

import numpy as np

from training.judgement.sample import Floats, Sample

LEAST_SYMBOLS = 3
"""Symbols that a rank correlation of one bar needs."""


def across_symbols(sample: Sample, score: Floats) -> tuple[Floats, Floats]:
    """Spearman correlation of each bar, and whether there is one (1 or 0); (times,) each.

    A bar with fewer than `LEAST_SYMBOLS` symbols, or with equal scores or returns only, has none.
    """
    from scipy.stats import rankdata

    grids = []
    for values in (score, sample.log_return):
        grid = np.full((sample.times, sample.symbols), np.inf)  # absent: ranks behind all others
        grid[sample.place, sample.symbol] = values
        grids.append(rankdata(grid, axis=1))
    there = np.zeros((sample.times, sample.symbols), bool)
    there[sample.place, sample.symbol] = True
    count = there.sum(axis=1)
    x, y = (_centred(ranks, there, count) for ranks in grids)
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    known = (count >= LEAST_SYMBOLS) & (spread > 0)
    correlation = np.where(known, (x * y).sum(axis=1) / np.where(spread > 0, spread, 1.0), 0.0)
    return correlation, known.astype(np.float64)


def over_time(sample: Sample, score: Floats) -> Floats:
    """Contributions (n,) whose mean over the rows of a symbol is its Spearman correlation; 0 where it has none.

    The ranks are those of the whole sample, also where rows are drawn again.
    """
    from scipy.stats import rankdata

    found = np.zeros(len(sample))
    for index in np.unique(sample.symbol):
        mine = np.flatnonzero(sample.symbol == index)
        x, y = (rankdata(values[mine]) for values in (score, sample.log_return))
        spread = x.std() * y.std()
        if spread > 0:
            found[mine] = (x - x.mean()) * (y - y.mean()) / spread
    return found


def _centred(ranks: Floats, there: Floats, count: Floats) -> Floats:
    ranks = np.where(there, ranks, 0.0)
    mean = ranks.sum(axis=1) / np.maximum(count, 1)
    return np.where(there, ranks - mean[:, None], 0.0)
