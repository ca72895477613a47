"""What acting on a forecast would have earned, after costs.

At the close of bar t, a symbol is bought if the score exceeds the threshold of its fold, sold short if minus the score
does, and left alone otherwise; the position is held for h bars and valued at the close of t + h. The price paid is the
close of t: on a market that never shuts, the next open is a moment later, and slippage stands for the difference. The
threshold is taken from the validation rows (training/judgement/forecasts.py), so nothing later than t is used.

Each symbol has an equal share of the capital. Positions do not overlap: one that begins at t follows the one that
ended at t. There are h such strategies, beginning at h neighbouring bars; figures are means over all of them. Costs are
paid on what changes hands: nothing if a position goes on, twice as much if it turns round. At the end of a fold
everything is sold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.judgement.sample import Floats, Sample, fold_bars


@dataclass(frozen=True)
class Trades:
    """Per bar and symbol (times, S) float32, of the holding period that begins there, in shares of its capital."""

    gross: NDArray[np.float32]
    """Return before costs."""
    turnover: NDArray[np.float32]
    """What changed hands."""
    cost: float
    """Per unit of turnover."""

    @property
    def net(self) -> NDArray[np.float32]:
        """Return after costs."""
        return self.gross - np.float32(self.cost) * self.turnover


def trades_of(sample: Sample, score: Floats, thresholds: dict[int, float], cost: float) -> Trades:
    """Act on scores.

    Parameters
    ----------
    score
        (n,) of the rows of the sample.
    thresholds
        Per fold, what |score| has to exceed.
    cost
        Per side, as a share of what is traded.
    """
    threshold = np.vectorize(thresholds.__getitem__, otypes=[float])(sample.fold) if len(sample) else score
    side = np.where(np.abs(score) > threshold, np.sign(score), 0.0)
    position = np.zeros((sample.times, sample.symbols), np.float32)
    gross = np.zeros_like(position)
    position[sample.place, sample.symbol] = side
    gross[sample.place, sample.symbol] = side * np.expm1(sample.log_return)
    turnover = np.zeros_like(position)
    for index in thresholds:
        bars = fold_bars(sample, index)
        turnover[bars] = _turnover(position[bars], sample.horizon)
    return Trades(gross, turnover, cost)


def _turnover(position: NDArray[np.float32], horizon: int) -> NDArray[np.float32]:
    """What changes hands at each bar, the final sale counted at the last bar that a position begins at."""
    before = np.zeros_like(position)
    before[horizon:] = position[:-horizon]
    changed = np.abs(position - before)
    changed[-horizon:] += np.abs(position[-horizon:])
    return changed
