"""Three controls that belong to every training run: two markets without skill, and one whose skill is known.

- Shuffled labels: the run's own windows, with labels of other times. Skill here means that labels reach the inputs,
  or that the judgement is wrong.
- Random walk: bars without any signal, through the same kernels, data set builder, training and judgement. Skill here
  means that a feature or a target looks ahead.
- Planted signal: at least `LEAST_SHARE` of the information that the built-in market's generator plants is found. Less
  means that the forecaster does not learn what is there to be learned.

The first two train a small network on few rows: a leak gives skill to any network. How much skill they would notice
at that size is told by their intervals; less than that goes unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from training.config import DOWN, UP, ForecasterConfig
from training.controls.sets import planted_set, random_walk_set, shuffled_labels, thinned
from training.controls.verdicts import FoundShare, NoSkill, found_share, no_skill
from training.data.training_set import TrainingSet
from training.evaluate import Forecast, forecast, keras_predict_fn
from training.files import write_atomically
from training.fitting.fit import train
from training.network.forecaster_files import load_forecaster
from training.progress import ProgressCallback

CONTROLS_FILE: Final = "controls.json"
FORMAT_VERSION: Final = 1
CONTROLS: Final = ("shuffled_labels", "random_walk", "planted_signal")
"""In their order."""
LEAST_SHARE: Final = 0.8
"""Of the best possible information about the sign, to be found where a signal is planted."""

SMALL_NETWORK: Final = {
    "width": 8,
    "heads": 2,
    "blocks": 1,
    "lstm_units": 8,
    "ff": 16,
    "hidden": 8,
    "dropout": 0.0,
}
"""Enough to see a leak."""
SHORT_TRAINING: Final = {"epochs": 2, "batch_size": 128, "learning_rate": 5e-3, "patience": 2}
PLANTED_TRAINING: Final = SMALL_NETWORK | {
    "window": 16,
    "max_windows": 40_000,
    "validation_windows": 4_000,
    "epochs": 3,
    "patience": 3,
    "batch_size": 256,
    "learning_rate": 4e-3,
}
WIDE: Final = 0.3
"""Width of the AUC's interval above which the words say that little would have been noticed."""
TRAIN_ROWS: Final = 6_000
TEST_ROWS: Final = 8_000


class ControlsReport(BaseModel):
    """What the controls of one training run found; kept beside the forecaster.

    Attributes
    ----------
    settings_id
        Hash of what the results depend on: data, settings, and the settings of the controls.
    planted_market
        Where the planted signal was looked for: `own`, the market of the run, or `simulated` for the purpose.
    least_share
        Share of the planted information that was last asked for; `LEAST_SHARE` unless someone has changed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    settings_id: str
    shuffled_labels: NoSkill | None = None
    random_walk: NoSkill | None = None
    planted_signal: FoundShare | None = None
    planted_market: Literal["own", "simulated"] = "simulated"
    least_share: float = LEAST_SHARE


def run_controls(
    data: TrainingSet,
    config: ForecasterConfig,
    workdir: Path,
    *,
    own_share: FoundShare | None = None,
    least_share: float = LEAST_SHARE,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    training: ProgressCallback | None = None,
) -> ControlsReport:
    """Run the three controls of a training run, or go on with those begun.

    Parameters
    ----------
    data, config
        What the forecaster was trained with.
    workdir
        Folder of the forecaster. `CONTROLS_FILE` holds the results, written after each control; a control that was
        stopped goes on where its training stood.
    own_share
        What the forecaster itself found of a signal planted in its own market; None on other markets, where a small
        market is simulated and a forecaster trained on it.
    least_share
        Share of the planted information that is asked for; kept with the results, on which it has no influence.
    seed
        Of the shuffling, the walk and the simulated market.
    progress
        Told the name of each control that begins, see `CONTROLS`.
    training
        Told how the training of that control goes.

    Returns
    -------
    ControlsReport
        With all three results. The same call gives the same report, as far as training repeats itself.

    Raises
    ------
    TrainingSetError
        The data are too few for a control.
    DivergedError
        The training of a control went wrong.
    """
    tell = progress or (lambda _: None)
    settings_id = _settings_id(data, config, seed)
    report = read_controls(workdir)
    if report is None or report.settings_id != settings_id:
        report = ControlsReport(settings_id=settings_id)
    if report.least_share != least_share:
        report = _keep(report, workdir, least_share=least_share)
    work = Path(workdir) / "controls"
    if report.shuffled_labels is None:
        tell("shuffled_labels")
        found = judge_without_skill(
            shuffled_labels(data, seed=seed),
            config,
            work / "shuffled_labels",
            sign_only=False,
            progress=training,
        )
        report = _keep(report, workdir, shuffled_labels=found)
    if report.random_walk is None:
        tell("random_walk")
        walk = random_walk_set(data.manifest.interval, data.feature_names, config, work / "walk", seed=seed)
        found = judge_without_skill(walk, config, work / "random_walk", sign_only=True, progress=training)
        report = _keep(report, workdir, random_walk=found)
    if own_share is not None:
        report = _keep(report, workdir, planted_signal=own_share, planted_market="own")
    elif report.planted_signal is None or report.planted_market == "own":
        tell("planted_signal")
        report = _keep(
            report,
            workdir,
            planted_signal=find_planted(config, work, seed=seed, progress=training),
            planted_market="simulated",
        )
    shutil.rmtree(work, ignore_errors=True)  # some 40 MB; the results are in the report
    return report


def judge_without_skill(
    data: TrainingSet,
    config: ForecasterConfig,
    workdir: Path,
    *,
    sign_only: bool,
    progress: ProgressCallback | None = None,
) -> NoSkill:
    """Train a small network on a set in which there is nothing to be learned, and judge it on the test rows.

    Parameters
    ----------
    data
        Windows and targets; `TRAIN_ROWS` and `TEST_ROWS` of them are used.
    config
        Of the run; the sizes are the control's own.
    workdir
        Folder of the training.
    sign_only
        See `training.controls.verdicts.no_skill`.
    progress
        Told how the training goes.
    """
    few = thinned(data, train=TRAIN_ROWS, test=TEST_ROWS)
    settings = {"max_windows": TRAIN_ROWS, "validation_windows": TEST_ROWS // 4, "seed": config.seed}
    small = config.model_copy(update=SMALL_NETWORK | SHORT_TRAINING | settings)
    model, _ = load_forecaster(train(few, small, workdir, progress).path)
    said = forecast(keras_predict_fn(model), few, "test")
    rows = few.rows["test"]
    outcomes = few.outcomes(rows)
    return no_skill(
        said.direction,
        outcomes.direction,
        outcomes.log_return,
        np.asarray(few.manifest.class_share["train"]),
        rows[:, 0],
        horizon=config.horizon,
        sign_only=sign_only,
    )


def find_planted(
    config: ForecasterConfig, workdir: Path, *, seed: int = 0, progress: ProgressCallback | None = None
) -> FoundShare:
    """Train a forecaster on a small simulated market, and tell how much of its planted signal it found.

    `progress` is told how the training goes.
    """
    settings = config.model_copy(update=PLANTED_TRAINING)
    data, best = planted_set(settings, workdir / "planted", seed=seed)
    trained = train(data, data.manifest.config, workdir / "planted_signal", progress)
    model, _ = load_forecaster(trained.path)
    return found_share(sign_score(forecast(keras_predict_fn(model), data, "test")), best)


def sign_score(said: Forecast) -> NDArray[np.floating]:
    """Score (n,) that ranks rises above falls: p_up - p_down."""
    direction = said.direction.astype(np.float64)
    return np.asarray(direction[:, UP] - direction[:, DOWN])


def read_controls(workdir: Path) -> ControlsReport | None:
    """Return the results kept beside a forecaster; None where there are none that this code can read."""
    try:
        found = ControlsReport.model_validate_json((Path(workdir) / CONTROLS_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return found if found.format_version == FORMAT_VERSION else None


def _keep(report: ControlsReport, workdir: Path, **results: Any) -> ControlsReport:
    report = report.model_copy(update=results)
    write_atomically(Path(workdir) / CONTROLS_FILE, report.model_dump_json(indent=1).encode())
    return report


def _settings_id(data: TrainingSet, config: ForecasterConfig, seed: int) -> str:
    own = [SMALL_NETWORK, SHORT_TRAINING, PLANTED_TRAINING, TRAIN_ROWS, TEST_ROWS, seed]
    parts = [FORMAT_VERSION, data.manifest.training_set_id, config.model_dump(mode="json"), own]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
