"""How good served predictions turned out to be, period by period, once what they foretold is known.

Only prices are needed: the AUC and the log loss of the sign of the return (`p_up` against `p_down`; log 2 is a coin's),
and the share of returns between the outer quantiles.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from training import scores
from training.block_interval import LEAST_BLOCKS
from training.evaluate import BLOCK_HORIZONS
from training.paired_bootstrap import PairedDifference, paired_difference

LEAST_ROWS: Final = 200
"""Known outcomes below which no scores are shown."""
PERIODS: Final = 10
DRAWS: Final = 500
LEVEL: Final = 0.99


class Period(BaseModel):
    """Scores of the predictions of one period; None where only one outcome occurred."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_open_time: int
    last_open_time: int
    rows: int
    auc_sign: float | None
    sign_log_loss: float
    coverage: float


class ServedSkill(BaseModel):
    """Skill over time.

    Attributes
    ----------
    rows
        Predictions whose outcome is known and not zero.
    periods
        Equally many rows each, in order of time; none where there are fewer than `LEAST_ROWS` rows.
    gain, gain_interval
        A coin's log loss of the sign minus the model's over the newest half, nats a row, with its 99 % interval. The
        interval is None, and the verdict open, where that half fills too few blocks of 8 horizons: the symbols of one
        sweep move together, so that thousands of rows of one day hold little.
    worse
        The verdict: over the newest half the model is worse than a coin, beyond the interval.
    words
        The verdict in a sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    periods: tuple[Period, ...] = ()
    gain: float | None = None
    gain_interval: tuple[float, float] | None = None
    worse: bool = False
    words: str


def served_skill(
    open_time: NDArray[np.int64],
    p_down: NDArray[np.floating],
    p_up: NDArray[np.floating],
    low: NDArray[np.floating],
    high: NDArray[np.floating],
    log_return: NDArray[np.floating],
    *,
    horizon_ms: int,
) -> ServedSkill:
    """Judge predictions whose outcome is known.

    Parameters
    ----------
    open_time
        (n,) of the predictions' bars, ms since epoch, UTC.
    p_down, p_up, low, high
        (n,) probabilities and outer quantiles that were served.
    log_return
        (n,) what came; rows where it is NaN (not known yet) or 0 are left out.
    horizon_ms
        Time that a prediction reaches ahead.
    """
    known = np.isfinite(log_return) & (log_return != 0) & (p_up + p_down > 0)
    order = np.flatnonzero(known)[np.argsort(open_time[known], kind="stable")]
    if len(order) < LEAST_ROWS:
        return ServedSkill(
            rows=len(order),
            words=f"{len(order)} outcomes of predictions are known, {LEAST_ROWS} are needed to tell of skill",
        )
    time, came = open_time[order], log_return[order]
    up, up_share = came > 0, (p_up / (p_up + p_down))[order]
    loss = -np.log(np.clip(np.where(up, up_share, 1 - up_share), scores.PROBABILITY_FLOOR, 1))
    inside = (came >= low[order]) & (came <= high[order])
    score = (p_up - p_down)[order]
    periods = tuple(
        _period(time[part], score[part], up[part], loss[part], inside[part])
        for part in np.array_split(np.arange(len(order)), PERIODS)
    )
    newest = slice(len(order) // 2, None)
    times = np.unique(time[newest])
    step = max(1, int(np.median(np.diff(times))) if len(times) > 1 else 1)
    gain = paired_difference(
        np.log(2) - loss[newest],
        time[newest],
        block=max(1, BLOCK_HORIZONS * horizon_ms // step),
        draws=DRAWS,
        seed=0,
        level=LEVEL,
    )
    worse = gain.interval is not None and gain.interval[1] < 0
    return ServedSkill(
        rows=len(order),
        periods=periods,
        gain=gain.mean,
        gain_interval=gain.interval,
        worse=worse,
        words=_in_words(len(order), gain),
    )


def _period(
    time: NDArray[np.int64],
    score: NDArray[np.floating],
    up: NDArray[np.bool_],
    loss: NDArray[np.floating],
    inside: NDArray[np.bool_],
) -> Period:
    area = scores.auc(score, up)
    return Period(
        first_open_time=int(time[0]),
        last_open_time=int(time[-1]),
        rows=len(time),
        auc_sign=None if np.isnan(area) else area,
        sign_log_loss=float(loss.mean()),
        coverage=float(inside.mean()),
    )


def _in_words(rows: int, gain: PairedDifference) -> str:
    if gain.interval is None:
        return (
            f"of {rows:,} served predictions the newer half fills {gain.blocks} blocks of {BLOCK_HORIZONS} horizons,"
            f" {LEAST_BLOCKS} are needed to tell of skill"
        )
    low, high = gain.interval
    verdict = "worse" if high < 0 else "better" if low > 0 else "no better"
    return (
        f"of {rows:,} served predictions the newer half is {verdict} than a coin: log loss of the sign"
        f" {gain.mean:+.4f} nats better [{low:+.4f}, {high:+.4f}]"
    )
