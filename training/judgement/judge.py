"""The judgement: every fold and every forecast of it, scored and written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from training.baselines.registry import baseline, unusable
from training.config import ForecasterConfig
from training.data.folds import walk_forward
from training.data.training_set import TrainingSet
from training.errors import TrainingSetError
from training.judgement.forecasts import forecasts_of
from training.judgement.judging import Judging
from training.judgement.kept import write_judgement
from training.judgement.results import Judgement
from training.judgement.settings import JudgementSettings
from training.progress import Counted, ProgressCallback

Begun = Callable[[int, str], None]
"""Told the number of the fold and the name of the forecast that is made next."""


def judge_folds(
    data: TrainingSet,
    config: ForecasterConfig,
    workdir: Path,
    *,
    settings: JudgementSettings | None = None,
    begun: Begun | None = None,
    progress: ProgressCallback | None = None,
    scoring: Counted | None = None,
) -> Judgement:
    """Walk forward through a training set and judge the forecaster beside its baselines.

    What was made before an interruption is kept in `workdir` and not made again. The judgement and its report are
    written there too, `judgement.json` and `report.html`.

    Parameters
    ----------
    data
        Rows, windows and targets; its own splits do not matter.
    config
        Of the forecaster that is trained in each fold, and of the folds' rows (shares, `max_windows`, embargo); window,
        horizon and flat band must be those of `data`.
    workdir
        Folder for the training runs, the forecasts and the result.
    settings
        Folds, baselines, costs, draws.
    begun, progress
        Told what is made next, and how the training of the forecaster goes.
    scoring
        Told how many samples of how many are scored; a sample is a forecast on all folds, on one, or on one symbol.

    Raises
    ------
    TrainingSetError
        A fold is left without rows, or the settings do not fit the training set.
    EvaluationError
        There is no baseline of a name.
    """
    settings = settings or JudgementSettings()
    for name in settings.baselines:
        baseline(name)
    left_out = {name: why for name in settings.baselines if (why := unusable(name)) is not None}
    kept = tuple(name for name in settings.baselines if name not in left_out)
    settings = settings.model_copy(update={"baselines": kept})
    data = _with_config(data, config)
    folds = walk_forward(data, settings.folds, min_train_share=settings.min_train_share)
    made = [
        forecasts_of(
            fold,
            config,
            settings,
            workdir / f"fold-{fold.index}",
            begun=lambda name, index=fold.index: begun(index, name) if begun else None,  # type: ignore[misc]
            progress=progress,
        )
        for fold in folds
    ]
    judging = Judging(folds, made, settings, scoring)
    found = judging.judgement(data, config).model_copy(update={"left_out": left_out})
    write_judgement(workdir, found)
    return found


def _with_config(data: TrainingSet, config: ForecasterConfig) -> TrainingSet:
    """Give the training set the settings of the judgement, all but those that its arrays were built with."""
    built = data.manifest.config
    for name in ("window", "horizon", "flat_band"):
        if getattr(built, name) != getattr(config, name):
            raise TrainingSetError(
                f"the training set was built with {name} {getattr(built, name)}, the judgement is to have"
                f" {getattr(config, name)}",
                where=str(data.path),
                remedy="build the training set again with the same settings",
            )
    return replace(data, manifest=data.manifest.model_copy(update={"config": config}))
