"""The walk-forward table and the controls, from recorded bars or from the built-in market."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernels.catalogue import available, model_features
from kernels.compute import compute
from market.store import Panel
from training.config import ForecasterConfig
from training.controls.markets import SyntheticMarket
from training.controls.run import LEAST_SHARE, run_controls
from training.data.dataset import build_training_set
from training.data.training_set import TrainingSet
from training.judgement import Judgement, JudgementSettings, in_words, judge_folds

log = logging.getLogger(__name__)

Tell = Callable[[str], None]


def training_set_of(panel: Panel | SyntheticMarket, config: ForecasterConfig, folder: Path) -> TrainingSet:
    """Compute the forecaster's features of a panel, as far as its columns allow, and build the training set."""
    block = compute(panel, available(model_features(panel.open_time), panel.columns))
    return build_training_set(block, panel.columns["close"], panel.interval, config, folder)


def measure(
    data: TrainingSet,
    config: ForecasterConfig,
    settings: JudgementSettings,
    workdir: Path,
    *,
    controls: bool,
    tell: Tell,
) -> tuple[Judgement, dict[str, Any]]:
    """Judge, then run the controls; what was made before is kept in `workdir`.

    Returns
    -------
    (Judgement, dict)
        The judgement with everything in it, and the figures ready for JSON.
    """
    started = time.monotonic()
    judgement = judge_folds(
        data,
        config,
        workdir,
        settings=settings,
        begun=lambda fold, name: tell(f"fold {fold + 1} of {settings.folds}: {name}"),
    )
    judged = time.monotonic() - started
    told = {
        "interval": judgement.interval,
        "symbols": list(judgement.symbol_names),
        "first_time": judgement.first_time,
        "last_time": judgement.last_time,
        "rows": judgement.rows,
        "horizon": config.horizon,
        "words": in_words(judgement),
        "table": _table(judgement),
        "differences": [difference.model_dump(mode="json") for difference in judgement.differences],
        "folds": [
            {"fold": fold.index, "counts": fold.counts, "scores": _plain(fold.scores)}
            for fold in judgement.folds
        ],
        "settings": settings.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
        "seconds_judgement": round(judged, 1),
    }
    return judgement, told | (_controls(data, config, workdir, tell) if controls else {})


def _controls(data: TrainingSet, config: ForecasterConfig, workdir: Path, tell: Tell) -> dict[str, Any]:
    started = time.monotonic()
    report = run_controls(data, config, workdir, progress=lambda name: tell(f"control: {name}"))
    assert report.shuffled_labels is not None and report.random_walk is not None
    assert report.planted_signal is not None
    planted = report.planted_signal
    return {
        "controls": {
            "shuffled_labels": report.shuffled_labels.model_dump(mode="json")
            | {"passed": report.shuffled_labels.passed},
            "random_walk": report.random_walk.model_dump(mode="json") | {"passed": report.random_walk.passed},
            "planted_signal": planted.model_dump(mode="json")
            | {"passed": planted.share >= LEAST_SHARE, "least_share": LEAST_SHARE},
        },
        "planted_information_share": planted.share,
        "seconds_controls": round(time.monotonic() - started, 1),
    }


def _table(judgement: Judgement) -> dict[str, Any]:
    return _plain(judgement.scores)


def _plain(scores: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {score: figure.model_dump(mode="json") for score, figure in found.items()}
        for name, found in scores.items()
    }
