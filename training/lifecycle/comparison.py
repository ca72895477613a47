"""Two models on the rows that neither has seen: losses, gains over knowing nothing, and whether they differ.

The loss of a row is what the forecaster is trained on: cross-entropy of the direction + mean pinball loss of the
scaled quantiles + squared error of the log volatility. Each model is judged on its own question: its window, features,
horizon, flat band and volatility. Questions of other definitions differ in how hard they are, so what is compared is
the gain over the base rate: the loss of saying the class shares, quantiles and mean volatility ratio of the bars
before the span, less the loss of the model. Between models of one definition the base rate cancels, and the
difference of the gains is the difference of the losses.

Quantile levels that only one of the two predicts are left out, and so is volatility if only one predicts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from market.intervals import interval_ms
from training.config import CLASSES
from training.data.targets import NO_TARGET
from training.errors import EvaluationError
from training.evaluate import BLOCK_HORIZONS, Forecast, PredictFn
from training.export.manifest import Manifest
from training.lifecycle.unseen import Bars, Targets, UnseenRows, targets_of, unseen_rows, window_batches
from training.paired_bootstrap import paired_difference
from training.scores import PROBABILITY_FLOOR

Floats = NDArray[np.floating]


class Comparison(BaseModel):
    """How a challenger did beside a champion; losses and gains are means over the rows."""

    model_config = ConfigDict(frozen=True)

    first_open_time: int | None = Field(description="of the rows judged, ms since epoch; None without rows")
    last_open_time: int | None
    rows: int
    bars: int = Field(description="distinct bars among the rows")
    stride: int = Field(description="every how many bars rows were taken")
    block_bars: int = Field(description="judged bars in a block of the bootstrap")
    blocks: int = Field(description="blocks that the span was long enough for")
    same_question: bool = Field(description="whether both predict the same target by the same definitions")
    loss_champion: dict[str, float]
    loss_challenger: dict[str, float]
    base_champion: dict[str, float]
    base_challenger: dict[str, float]
    difference: float = Field(description="gain of the challenger - gain of the champion; above 0: better")
    interval: tuple[float, float] | None = Field(
        description="95 % of `difference`, from the block bootstrap; None with too few blocks"
    )
    p_value: float = Field(description="one-sided, of: the challenger is not better")
    draws: int


class Contestant(NamedTuple):
    """A model to be compared."""

    manifest: Manifest
    predict: PredictFn


class _Losses(NamedTuple):
    direction: Floats
    quantiles: Floats
    volatility: Floats

    @property
    def total(self) -> Floats:
        return self.direction + self.quantiles + self.volatility


def compare(
    champion: Contestant,
    challenger: Contestant,
    bars: Bars,
    *,
    max_rows: int,
    draws: int,
    seed: int = 0,
    block_horizons: int = BLOCK_HORIZONS,
) -> Comparison:
    """Compare two models on the newest rows of `bars` that neither has seen.

    Parameters
    ----------
    champion, challenger
        The models.
    bars
        Features of both and close prices, the newest bar last.
    max_rows
        Rows judged at most, see `training.lifecycle.unseen.unseen_rows`.
    draws, seed
        Of the bootstrap.
    block_horizons
        Length of its blocks in horizons (the longer of the two).

    Returns
    -------
    Comparison
        Without rows: no losses, `p_value` 1.

    Raises
    ------
    EvaluationError
        A model gave an answer that is not finite on a complete window.
    """
    pair = (champion, challenger)
    manifests = [contestant.manifest for contestant in pair]
    targets = [targets_of(bars, manifest) for manifest in manifests]
    found = unseen_rows(bars, manifests, targets, max_rows=max_rows)
    levels = [q for q in manifests[0].quantiles if q in manifests[1].quantiles]
    said = [_forecasts(contestant, bars, found.rows) for contestant in pair]
    with_volatility = all(forecast.volatility is not None for forecast in said)
    losses = [
        _losses(forecast, target, manifest, found.rows, levels, with_volatility)
        for forecast, target, manifest in zip(said, targets, manifests, strict=True)
    ]
    bases = [
        _base_losses(target, manifest, found, levels, with_volatility)
        for target, manifest in zip(targets, manifests, strict=True)
    ]
    gains = [base.total - loss.total for base, loss in zip(bases, losses, strict=True)]
    horizon = max(manifest.horizon for manifest in manifests)
    block = max(1, -(-block_horizons * horizon // found.stride))
    paired = paired_difference(gains[1] - gains[0], found.rows[:, 0], block=block, draws=draws, seed=seed)
    times = bars.open_time[found.rows[:, 0]]
    return Comparison(
        first_open_time=int(times[0]) if len(times) else None,
        last_open_time=int(times[-1]) if len(times) else None,
        rows=len(times),
        bars=found.bars,
        stride=found.stride,
        block_bars=block,
        blocks=found.bars // block,
        same_question=_question(manifests[0]) == _question(manifests[1]),
        loss_champion=_means(losses[0]),
        loss_challenger=_means(losses[1]),
        base_champion=_means(bases[0]),
        base_challenger=_means(bases[1]),
        difference=paired.mean if len(times) else 0.0,
        interval=paired.interval,
        p_value=paired.p_value,
        draws=paired.draws,
    )


def _question(manifest: Manifest) -> tuple[object, ...]:
    return manifest.horizon, manifest.flat_band, manifest.volatility_feature


def _forecasts(contestant: Contestant, bars: Bars, rows: NDArray[np.int64]) -> Forecast:
    """Ask a model about all rows, a stretch of bars at a time."""
    manifest, n = contestant.manifest, len(rows)
    direction, quantiles = np.zeros((n, len(CLASSES))), np.zeros((n, len(manifest.quantiles)))
    volatility: NDArray[np.float64] | None = np.zeros(n)
    for part, windows in window_batches(bars, manifest, rows):
        said = contestant.predict(windows)
        direction[part], quantiles[part] = said.direction, said.quantiles
        if said.volatility is None or volatility is None:
            volatility = None
        else:
            volatility[part] = said.volatility
    answers = [direction, quantiles, *([] if volatility is None else [volatility])]
    if not all(np.isfinite(answer).all() for answer in answers):
        raise EvaluationError(
            f"model {manifest.model_version} gives answers that are not finite on complete windows",
            where=f"bars of {bars.interval} after {bars.open_time[rows[0, 0]]}",
            remedy="export the model again, and compare its files with Keras (parity in the manifest)",
        )
    return Forecast(direction, quantiles, volatility)


def _losses(
    said: Forecast,
    targets: Targets,
    manifest: Manifest,
    rows: NDArray[np.int64],
    levels: Sequence[float],
    with_volatility: bool,
) -> _Losses:
    t, s = rows[:, 0], rows[:, 1]
    scale = targets.volatility[t, s]
    at = [manifest.quantiles.index(level) for level in levels]
    ratio = np.log(said.volatility / scale) if with_volatility and said.volatility is not None else None
    return _row_losses(said.direction, said.quantiles[:, at] / scale[:, None], ratio, targets, rows, levels)


def _row_losses(
    probability: Floats,
    scaled: Floats,
    log_ratio: Floats | None,
    targets: Targets,
    rows: NDArray[np.int64],
    levels: Sequence[float],
) -> _Losses:
    """Losses (n,) of class probabilities (n, 3), quantiles (n, L) in volatilities and log ratios (n,)."""
    t, s = rows[:, 0], rows[:, 1]
    n = len(rows)
    given = probability[np.arange(n), targets.direction[t, s]]
    error = targets.scaled[t, s][:, None] - scaled
    q = np.asarray(levels, np.float64)
    pinball = np.maximum(q * error, (q - 1) * error).mean(axis=1) if levels else np.zeros(n)
    came = targets.log_ratio[t, s]
    squared = np.zeros(n) if log_ratio is None else np.where(np.isfinite(came), (came - log_ratio) ** 2, 0.0)
    return _Losses(-np.log(np.clip(given, PROBABILITY_FLOOR, 1)), pinball, squared)


def _base_losses(
    targets: Targets, manifest: Manifest, found: UnseenRows, levels: Sequence[float], with_volatility: bool
) -> _Losses:
    """Losses of the base rate, taken from bars whose labels end before the first unseen bar."""
    known = max(0, found.first_bar - manifest.horizon)
    direction, scaled = targets.direction[:known], targets.scaled[:known]
    there = direction != NO_TARGET
    n = len(found.rows)
    if not there.any():  # nobody knows a base rate: every class alike, the quantiles of nothing moving
        shares, quantiles, ratio = np.full(len(CLASSES), 1 / len(CLASSES)), np.zeros(len(levels)), 0.0
    else:
        shares = np.bincount(direction[there], minlength=len(CLASSES)) / there.sum()
        quantiles = np.quantile(scaled[there], levels) if levels else np.zeros(0)
        ratios = targets.log_ratio[:known]
        ratio = float(ratios[np.isfinite(ratios)].mean()) if np.isfinite(ratios).any() else 0.0
    return _row_losses(
        np.tile(shares, (n, 1)),
        np.tile(quantiles, (n, 1)),
        np.full(n, ratio) if with_volatility else None,
        targets,
        found.rows,
        levels,
    )


def _means(losses: _Losses) -> dict[str, float]:
    if not len(losses.direction):
        return {}
    parts = {name: float(part.mean()) for name, part in losses._asdict().items()}
    return {**parts, "total": float(losses.total.mean())}


def span_days(comparison: Comparison, interval: str) -> float:
    """Return how many days the judged bars span; 0 without rows."""
    if comparison.first_open_time is None or comparison.last_open_time is None:
        return 0.0
    return (comparison.last_open_time - comparison.first_open_time + interval_ms(interval)) / 86_400_000
