"""A forecaster beside the best possible one, on a market whose generator tells the true probabilities.

Nobody can know more than the generator. Yet against the outcomes that came, a forecaster may rank them better than the
true probabilities do: those are right in expectation, and a test span is one sample. How far that goes is told by
intervals from a bootstrap of blocks of time, of the best's own AUC and of the paired difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.block_interval import block_interval, blocks_of
from training.bootstrap import BlockDraws
from training.evaluate import BOOTSTRAP_DRAWS, Metrics
from training.scores import RankedScores

LEVEL = 0.95


def auc_beside_best(
    score: NDArray[np.floating],
    best_p_up: NDArray[np.floating],
    realised_return: NDArray[np.floating],
    time: NDArray[np.integer],
    *,
    block: int,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> Metrics:
    """Tell how sure the AUC of the best forecast is, and the difference to it.

    Parameters
    ----------
    score, best_p_up, realised_return
        As `training.evaluate.skill_against_best` takes them; (n,) each.
    time
        (n,) bar of each row; rows of one bar belong together.
    block
        Bars in a block of the bootstrap.
    draws, seed
        Resampled data sets, and what they depend on.

    Returns
    -------
    dict
        Ready for JSON: `auc_best_interval`, `auc_above_best` (negative where the best is ahead) and
        `auc_above_best_interval`; an interval is None with too few blocks.
    """
    given = (
        np.isfinite(score) & np.isfinite(best_p_up) & np.isfinite(realised_return) & (realised_return != 0)
    )
    up, (distinct, place) = realised_return[given] > 0, np.unique(time[given], return_inverse=True)
    own, best = RankedScores(score[given], up), RankedScores(best_p_up[given], up)
    blocks = blocks_of(time[given], block)
    weights = BlockDraws(len(distinct), block=block, draws=draws, seed=seed).weights()
    drawn = np.array([(own.auc(weight[place]), best.auc(weight[place])) for weight in weights])
    above = own.auc() - best.auc()
    return {
        "auc_best_interval": _ends(block_interval(best.auc(), drawn[:, 1], LEVEL, blocks=blocks)),
        "auc_above_best": above,
        "auc_above_best_interval": _ends(
            block_interval(above, drawn[:, 0] - drawn[:, 1], LEVEL, blocks=blocks)
        ),
    }


def _ends(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def in_words(against_best: Mapping[str, Any]) -> str:
    """Say what the best possible is, how much of it was found, and why an AUC may lie above it."""
    best = f"{against_best['auc_best']:.3f}{_span(against_best.get('auc_best_interval'))}"
    told = f"best possible {best}"
    if found := against_best.get("information"):
        told += f", {found['share']:.0%} of its information found"
    above = against_best["auc"] - against_best["auc_best"]
    if above <= 0:
        return told
    interval = against_best.get("auc_above_best_interval")
    how = f"the AUC lies {above:.3f} above it{_span(interval, signed=True)}"
    if interval is not None and interval[0] > 0:
        return f"{told}; {how}, which sampling does not explain: look for a leak"
    return (
        f"{told}; {how} by the luck of this sample, since the best is known in probability and both are judged by what"
        " came; the share of information is free of it"
    )


def _span(interval: Any, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f" [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]" if interval else ""
