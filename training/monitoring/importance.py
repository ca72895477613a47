"""Which features a forecaster lives on: its loss when some of them tell of another window instead of their own.

Permutation importance (Breiman 2001; Fisher, Rudin & Dominici 2019) of groups of features, since indicators of one
family say much the same: with one of them permuted alone the others stand in for it, and each would look idle. The
features of a group are taken, together and over the whole window, from another row drawn at random.

A permuted window is one that no market would show (a volatility that does not go with its range). So the figure tells
what the forecaster uses, not what could be known from the features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from kernels.joins import split_name
from training import scores
from training.config import DOWN, UP
from training.data.dataset import evenly
from training.data.training_set import Batch, TrainingSet
from training.errors import EvaluationError
from training.evaluate import BLOCK_HORIZONS, PREDICT_BATCH, Forecast, PredictFn
from training.lifecycle.model_card import feature_group
from training.paired_bootstrap import paired_difference
from training.progress import Counted

ROWS = 2_000
DRAWS = 500


class GroupImportance(BaseModel):
    """What a group of features is worth.

    Attributes
    ----------
    group, features
        Its name and members.
    log_loss, log_loss_interval
        Rise of the log loss of the direction when the group is permuted, nats a row, with its 95 % interval from a
        bootstrap of blocks of time, None with too few blocks; at or below 0 the forecaster does without it.
    auc_sign
        Fall of the AUC of the sign.
    pinball
        Rise of the mean pinball loss, in units of volatility.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    features: tuple[str, ...]
    log_loss: float
    log_loss_interval: tuple[float, float] | None
    auc_sign: float
    pinball: float


def groups_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Sort features by the catalogue's groups, those of a longer interval by themselves (``momentum@1h``)."""
    found: dict[str, list[str]] = {}
    for name in names:
        _, interval = split_name(name)
        group = feature_group(name) + (f"@{interval}" if interval else "")
        found.setdefault(group, []).append(name)
    return {group: tuple(members) for group, members in found.items()}


def permutation_importance(
    predict: PredictFn,
    data: TrainingSet,
    split: str = "test",
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    rows: int = ROWS,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Counted | None = None,
) -> list[GroupImportance]:
    """Judge what a forecaster loses without each group of features.

    Parameters
    ----------
    predict
        Windows (n, window, F) to forecasts.
    data, split
        Windows and outcomes; at most `rows` of them are taken, evenly over time.
    groups
        Group to features; by default `groups_of`.
    rows
        Windows judged, once for each group and once as they are.
    draws, seed
        Of the bootstrap, and of all that is random.
    progress
        Told before each group how many of how many are done.

    Returns
    -------
    list of GroupImportance
        Largest rise of the log loss first.

    Raises
    ------
    EvaluationError
        A group names a feature that the set does not have.
    """
    chosen = groups_of(data.feature_names) if groups is None else groups
    places = {name: place for place, name in enumerate(data.feature_names)}
    unknown = sorted({name for members in chosen.values() for name in members} - set(places))
    if unknown:
        raise EvaluationError(
            f"no feature {unknown[0]!r} to permute",
            where=str(data.path),
            remedy=f"use some of {', '.join(data.feature_names)}",
        )
    batch = data.batch(split, evenly(len(data.rows[split]), rows, seed))
    random = np.random.default_rng(seed)
    judge = _Losses(data, batch)
    whole = judge.of(_forecast(predict, batch.windows))
    found = []
    for done, (group, members) in enumerate(chosen.items()):
        if progress is not None:
            progress(done, len(chosen))
        at = [places[name] for name in members]
        windows = batch.windows.copy()
        windows[:, :, at] = batch.windows[random.permutation(len(windows))][:, :, at]
        without = judge.of(_forecast(predict, windows))
        rise = paired_difference(
            without.log_loss - whole.log_loss,
            batch.rows[:, 0],
            block=BLOCK_HORIZONS * data.manifest.config.horizon,
            draws=draws,
            seed=seed,
        )
        found.append(
            GroupImportance(
                group=group,
                features=tuple(members),
                log_loss=rise.mean,
                log_loss_interval=rise.interval,
                auc_sign=whole.auc - without.auc,
                pinball=without.pinball - whole.pinball,
            )
        )
    return sorted(found, key=lambda one: -one.log_loss)


class _Judged:
    """Losses of one forecast: log loss (n,), AUC of the sign, mean pinball loss."""

    def __init__(self, log_loss: NDArray[np.floating], auc: float, pinball: float) -> None:
        self.log_loss, self.auc, self.pinball = log_loss, auc, pinball


class _Losses:
    def __init__(self, data: TrainingSet, batch: Batch) -> None:
        self._levels, self._outcomes = data.manifest.config.quantiles, batch.outcomes

    def of(self, said: Forecast) -> _Judged:
        outcomes = self._outcomes
        direction = said.direction.astype(np.float64)
        given = direction[np.arange(len(direction)), outcomes.direction]
        moved = outcomes.log_return != 0
        score = direction[:, UP] - direction[:, DOWN]
        scaled = said.quantiles / outcomes.volatility[:, None]
        pinball = [
            scores.pinball(scaled[:, i], outcomes.scaled, level) for i, level in enumerate(self._levels)
        ]
        return _Judged(
            -np.log(np.clip(given, scores.PROBABILITY_FLOOR, 1)),
            scores.auc(score[moved], outcomes.log_return[moved] > 0),
            float(np.mean(pinball)),
        )


def _forecast(predict: PredictFn, windows: NDArray[np.float32]) -> Forecast:
    parts = [predict(windows[at : at + PREDICT_BATCH]) for at in range(0, len(windows), PREDICT_BATCH)]
    return Forecast(
        np.concatenate([part.direction for part in parts]), np.concatenate([part.quantiles for part in parts])
    )
