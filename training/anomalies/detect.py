"""All detectors over a panel: fitted and calibrated on the bars up to a moment, applied to the bars after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from market.intervals import interval_ms
from market.store import FLAG_SCHEMA, Panel
from training.anomalies import forest, isolation
from training.anomalies.bar_features import forest_features
from training.anomalies.baseline import Baseline
from training.anomalies.errors import AnomalyError
from training.anomalies.plants import ONSET, plant
from training.anomalies.statistics import Z_STATISTICS, Columns, PastWindow, baselines, signed_z, z_scores

DETECTORS: Final[tuple[str, ...]] = (
    *(f"robust_z_{name}" for name in Z_STATISTICS),
    isolation.NAME,
    forest.NAME,
)
"""Names of the detectors; robust_z_trades only where the bars tell their trades."""

_BAR_COLUMNS: Final = ("open", "high", "low", "close", "volume")
_OPTIONAL_COLUMNS: Final = ("trades", "taker_buy_base")

Scores = NDArray[np.float32]
Score = Callable[[NDArray[np.float32]], Scores]


class AnomalyConfig(BaseModel):
    """What is decided about detection; bars are bars of the panel's interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: int = Field(default=720, ge=10, description="bars of the past that a bar is compared with")
    minimum: int = Field(default=120, ge=5, description="known bars in it below which a bar is not judged")
    refresh: int = Field(default=15, ge=1, description="bars between renewals of the baseline")
    alarm_rate: float = Field(
        default=1e-3, gt=0, lt=1, description="share of past bars that each detector would have flagged"
    )
    least_z: float = Field(default=6.0, gt=0, description="least threshold of the z-scores")
    calibration_share: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="last part of the past, on which thresholds are set, not forests fitted",
    )
    most_rows: int = Field(default=10_000, ge=100, description="past bars that forests are fitted on")
    most_plants: int = Field(default=1_500, ge=30, description="anomalies planted for the random forest")
    least_rows: int = Field(default=500, ge=50, description="judged past bars below which nothing is fitted")


@dataclass(frozen=True)
class AnomalyFlags:
    """Scores of every bar and the bars that stand out.

    Attributes
    ----------
    scores
        Detector to (T, S) float32, larger = less usual; NaN where a bar cannot be judged, and for the forests
        in the past.
    thresholds
        Detector to the score from which on a bar is flagged.
    frame
        The flagged bars after the past, `market.store.FLAG_SCHEMA`, by open_time, symbol and detector.
    fit_until
        End of the past, ms.
    """

    scores: dict[str, Scores]
    thresholds: dict[str, float]
    frame: pl.DataFrame
    fit_until: int


def detect_anomalies(
    panel: Panel,
    *,
    fit_until: int,
    created_at: int,
    seed: int = 0,
    config: AnomalyConfig | None = None,
) -> AnomalyFlags:
    """Score all bars of a panel and flag unusual ones.

    A bar's score depends on that bar and earlier ones, never on a later bar: forests and thresholds come from
    bars that had closed by `fit_until`, and only bars after that are flagged. Nothing fitted is kept; the
    same panel, moment and seed give the same flags.

    Parameters
    ----------
    panel
        (T, S) columns open, high, low, close, volume, and where the source tells them trades, taker_buy_base.
    fit_until
        ms. Bars closed by then are the past: forests are fitted on its first part, thresholds on its last.
    created_at
        ms, copied into the frame.
    seed
        Of the forests, of sampling and of planting.
    config
        See `AnomalyConfig`.

    Raises
    ------
    AnomalyError
        There is too little past, or a column is absent.
    """
    config = config or AnomalyConfig()
    past_rows = int(np.searchsorted(panel.open_time, fit_until - interval_ms(panel.interval), side="right"))
    columns = _columns(panel, past_rows)
    usual = baselines(panel, columns, PastWindow(config.window, config.refresh, config.minimum))
    scores = z_scores(signed_z(columns, usual))
    _, features = forest_features(columns, usual)
    known = np.isfinite(features[..., 0])
    fitted_rows = _fitted_rows(known, past_rows, config, panel)
    scores |= _forest_scores(columns, usual, features, known, fitted_rows, seed, config)
    thresholds = {
        name: _threshold(score[fitted_rows:past_rows], config.alarm_rate, _least(name, config))
        for name, score in scores.items()
    }
    for name in (isolation.NAME, forest.NAME):
        scores[name][:past_rows] = np.nan
    frame = _flagged(panel, scores, thresholds, past_rows, created_at)
    return AnomalyFlags(scores, thresholds, frame, fit_until)


def _columns(panel: Panel, past_rows: int) -> dict[str, NDArray[np.float64]]:
    absent = [name for name in _BAR_COLUMNS if name not in panel.columns]
    if absent:
        raise AnomalyError(
            f"the panel has no column {', '.join(absent)}",
            where=f"columns {', '.join(panel.columns)}",
            remedy="read it with KlineStore.panel and its default columns",
        )
    columns = {name: panel.columns[name] for name in _BAR_COLUMNS}
    present = ~np.isnan(columns["close"][:past_rows])
    for name in _OPTIONAL_COLUMNS:
        # A column that some symbols lack would take those symbols from the forests; it is left out for all.
        if name in panel.columns and not np.isnan(panel.columns[name][:past_rows][present]).any():
            columns[name] = panel.columns[name]
    return columns


def _fitted_rows(known: NDArray[np.bool_], past_rows: int, config: AnomalyConfig, panel: Panel) -> int:
    """Row that parts the bars that forests are fitted on from those that thresholds are set on."""
    judged = np.cumsum(known[:past_rows].sum(axis=1))
    total = int(judged[-1]) if len(judged) else 0
    if total < config.least_rows:
        raise AnomalyError(
            f"too little past: {total} bars can be judged, {config.least_rows} needed",
            where=f"{panel.interval} bars of {len(panel.symbols)} symbols before fit_until;"
            f" each needs {config.minimum} bars before it",
            remedy="ingest a longer history, or set fit_until later",
        )
    return int(np.searchsorted(judged, total * (1 - config.calibration_share)))


def _forest_scores(
    columns: Columns,
    usual: Mapping[str, Baseline],
    features: NDArray[np.float32],
    known: NDArray[np.bool_],
    fitted_rows: int,
    seed: int,
    config: AnomalyConfig,
) -> dict[str, Scores]:
    random = np.random.default_rng(seed)
    clean = _sample(features[:fitted_rows][known[:fitted_rows]], config.most_rows, random)
    isolating = isolation.fit_isolation(clean, seed)
    planted, labels = plant(columns, usual, fitted_rows, config.most_plants, random)
    past_usual = {name: base.head(fitted_rows) for name, base in usual.items()}
    _, planted_features = forest_features(planted, past_usual)
    onsets = planted_features[(labels == ONSET) & np.isfinite(planted_features[..., 0])]
    learnt = forest.fit_forest(clean, onsets, seed)
    return {
        isolation.NAME: _score(
            lambda rows: isolation.isolation_score(isolating, rows), features, known, fitted_rows
        ),
        forest.NAME: _score(lambda rows: forest.forest_score(learnt, rows), features, known, fitted_rows),
    }


def _sample(rows: NDArray[np.float32], most: int, random: np.random.Generator) -> NDArray[np.float32]:
    if len(rows) <= most:
        return rows
    return rows[np.sort(random.choice(len(rows), most, replace=False))]


def _score(score: Score, features: NDArray[np.float32], known: NDArray[np.bool_], first_row: int) -> Scores:
    """Score the known bars from a row on."""
    result = np.full(known.shape, np.nan, np.float32)
    judged = known.copy()
    judged[:first_row] = False
    if judged.any():
        result[judged] = score(features[judged])
    return result


def _least(name: str, config: AnomalyConfig) -> float:
    return config.least_z if name.startswith("robust_z_") else -np.inf


def _threshold(past_scores: Scores, alarm_rate: float, least: float) -> float:
    judged = past_scores[np.isfinite(past_scores)]
    if not len(judged):
        return np.inf
    # float32, as the scores are: else a score that equals the threshold could lie just below it.
    return float(np.float32(max(float(np.quantile(judged, 1 - alarm_rate)), least)))


def _flagged(
    panel: Panel,
    scores: Mapping[str, Scores],
    thresholds: Mapping[str, float],
    past_rows: int,
    created_at: int,
) -> pl.DataFrame:
    symbols = np.array(panel.symbols)
    parts = [pl.DataFrame(schema=FLAG_SCHEMA)]
    for name, score in scores.items():
        rows, columns = np.nonzero(score[past_rows:] >= thresholds[name])
        rows += past_rows
        part = pl.DataFrame(
            {"symbol": symbols[columns], "open_time": panel.open_time[rows], "score": score[rows, columns]}
        ).with_columns(
            kline_interval=pl.lit(panel.interval), detector=pl.lit(name), created_at=pl.lit(created_at)
        )
        parts.append(part.select(pl.col(column).cast(kind) for column, kind in FLAG_SCHEMA.items()))
    return pl.concat(parts).sort("open_time", "symbol", "detector")
