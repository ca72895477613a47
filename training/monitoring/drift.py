"""Whether the market still looks as it did in training, and whether served predictions still say something.

Drift of a feature is the Wasserstein distance between its recent values and those of the training span, both
standardised and cut as the model sees them: the mean of a feature that moves by one training standard deviation is a
distance of 1. Features of a market always move about, so what is usual is taken from the training span itself: it is
cut into pieces as long as the recent span, and each piece is held against the whole. A feature has drifted when it is
farther away than `FLOOR` and than `MARGIN` times the farthest piece; the market has, when a share `SHARE` of the
features has. Indicators of one family move together, so that a family beyond its farthest piece is no rare event: hence
the margin, and a share that one family alone does not make up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from training.config import Normalisation
from training.errors import EvaluationError

FLOOR: Final = 0.2
"""Distance, in training standard deviations, up to which nothing has drifted."""
MARGIN: Final = 1.5
SHARE: Final = 0.25
PIECES: Final = 12
"""Pieces of the training span that tell what is usual, at most; evenly over it."""
LEAST_PIECES: Final = 5
VALUES: Final = 5_000
"""Values of a feature that are compared, at most, drawn evenly over time."""


class FeatureDrift(BaseModel):
    """One feature: its distance now, and the farthest of the pieces of the training span."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature: str
    distance: float
    usual: float
    drifted: bool


class DriftReport(BaseModel):
    """What feature drift there is.

    Attributes
    ----------
    features
        Farthest beyond what is usual first.
    drifted
        The verdict: at least `SHARE` of the features drifted.
    over_time
        For each piece of the training span, in order, and then the recent bars: (share of features beyond `FLOOR`,
        mean distance).
    words
        The verdict in a sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: tuple[FeatureDrift, ...]
    drifted: bool
    bars: int
    pieces: int
    over_time: tuple[tuple[float, float], ...]
    words: str


def feature_drift(
    reference: NDArray[np.floating],
    recent: NDArray[np.floating],
    names: Sequence[str],
    normalisation: Normalisation,
) -> DriftReport:
    """Hold the newest features against those of the training span.

    Parameters
    ----------
    reference
        (T, S, F) features of the training span, by time; NaN where there is none.
    recent
        (n, S', F) features of the newest bars.
    names
        F names.
    normalisation
        The model's.

    Raises
    ------
    EvaluationError
        Shapes do not fit, one side has no values, or the training span is shorter than `LEAST_PIECES` recent spans.
    """
    _check(reference, recent, names, normalisation)
    bars = len(recent)
    starts = np.unique(np.linspace(0, len(reference) - bars, min(PIECES, len(reference) // bars)).astype(int))
    whole = _seen(reference, normalisation)
    pieces = [_distances(whole, _seen(reference[start : start + bars], normalisation)) for start in starts]
    now = _distances(whole, _seen(recent, normalisation))
    usual = np.nanmax(np.stack(pieces), axis=0)
    drifted = now > np.maximum(FLOOR, MARGIN * usual)
    order = np.argsort(-(now / np.maximum(usual, FLOOR)))
    found = tuple(
        FeatureDrift(
            feature=names[i], distance=float(now[i]), usual=float(usual[i]), drifted=bool(drifted[i])
        )
        for i in order
    )
    verdict = bool(drifted.mean() >= SHARE)
    return DriftReport(
        features=found,
        drifted=verdict,
        bars=bars,
        pieces=len(pieces),
        over_time=tuple((float((one > FLOOR).mean()), float(np.nanmean(one))) for one in (*pieces, now)),
        words=_in_words(found, verdict),
    )


def _check(
    reference: NDArray[np.floating],
    recent: NDArray[np.floating],
    names: Sequence[str],
    normalisation: Normalisation,
) -> None:
    widths = {len(names), len(normalisation.mean), reference.shape[-1], recent.shape[-1]}
    if reference.ndim != 3 or recent.ndim != 3 or len(widths) != 1:
        problem = f"features {reference.shape} and {recent.shape} do not fit {len(names)} names"
        remedy = "give both as (bars, symbols, features), of the model's features"
    elif not np.isfinite(reference).any() or not np.isfinite(recent).any():
        problem, remedy = "no feature has a value on one side", "compute the features of newer bars"
    elif len(reference) < LEAST_PIECES * len(recent):
        problem = f"{len(reference)} bars of training do not tell what is usual over {len(recent)} bars"
        remedy = (
            f"train on a longer history, or look at fewer recent days: {LEAST_PIECES} times as many bars are needed"
            " (KLINECAST_DRIFT_DAYS)"
        )
    else:
        return
    raise EvaluationError(problem, where="feature_drift", remedy=remedy)


def _seen(values: NDArray[np.floating], normalisation: Normalisation) -> list[NDArray[np.float64]]:
    """Return each feature's values as the model sees them, thinned, without those that are missing."""
    mean, std = np.asarray(normalisation.mean), np.asarray(normalisation.std)
    flat = values.reshape(-1, values.shape[-1])
    thin = flat[:: -(-len(flat) // VALUES)].astype(np.float64)
    standard = np.clip((thin - mean) / std, -normalisation.clip, normalisation.clip)
    return [column[np.isfinite(column)] for column in standard.T]


def _distances(
    first: Sequence[NDArray[np.float64]], second: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Wasserstein distance (F,) of each feature; NaN where one side has no value."""
    from scipy.stats import wasserstein_distance

    return np.array(
        [
            wasserstein_distance(a, b) if len(a) and len(b) else np.nan
            for a, b in zip(first, second, strict=True)
        ]
    )


def _in_words(features: Sequence[FeatureDrift], verdict: bool) -> str:
    gone = [one.feature for one in features if one.drifted]
    farthest = features[0]
    told = (
        f"{len(gone)} of {len(features)} features have drifted"
        if gone
        else f"no feature of {len(features)} has drifted"
    )
    told += f"; farthest {farthest.feature}, {farthest.distance:.2f} standard deviations"
    told += f" ({farthest.usual:.2f} in training)"
    return ("the market no longer looks as in training: " if verdict else "") + told
