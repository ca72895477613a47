"""A search over architectures and feature groups, judged on the validation split alone, every trial in the ledger.

`training/lifecycle/study.py` proposes and trains. The test split is taken away before anything is tried.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.data.training_set import TrainingSet
from training.errors import TrainingError
from training.files import remove_unless_held, write_atomically
from training.lifecycle.run_config import training_set_config
from training.lifecycle.search_space import Choice, SearchSpace, draw
from training.lifecycle.study import SearchProgress, SearchSettings, Study
from training.lifecycle.trials import Clock, Trial
from training.locks import HeldError, at_once

BEST_SETTINGS = Path("training") / "best_settings.yaml"
"""Run config of train_and_export with what the last search found best."""


class SearchError(TrainingError):
    """A search cannot run, or found nothing."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    study
        Its name.
    trials
        All of them, as in the ledger.
    best
        The trial with the lowest validation loss.
    choice
        What it is made of.
    settings_file
        Run config of train_and_export with it.
    already
        How many of the trials had come to an end before, and were not tried again.
    """

    study: str
    trials: tuple[Trial, ...]
    best: Trial
    choice: Choice
    settings_file: Path
    already: int = 0

    @property
    def gained(self) -> float | None:
        """How much lower the loss of the best is than that of the settings that the search began with.

        None where these came to no end, 0 where they are the best.
        """
        first = self.trials[0]
        if first.state != "complete":
            return None
        return float(first.details["validation_loss"]) - float(self.best.details["validation_loss"])


def search(
    home: Path,
    data: TrainingSet,
    settings: SearchSettings,
    *,
    now: Clock,
    space: SearchSpace | None = None,
    progress: SearchProgress | None = None,
    threads: int | None = None,
) -> SearchResult:
    """Search, or go on with the same search, and write the best settings down as a run config.

    Parameters
    ----------
    home
        The platform's home folder.
    data
        Training set whose settings are where the search begins; not a view.
    settings
        How much to try. More trials of the same search go on where it ended.
    now
        Gives the time, ms since epoch, by the exchange's clock.
    space
        What may vary.
    progress
        Called as `training.fitting.fit.train` calls its own.
    threads
        As `training.fitting.fit.train` takes them.

    Raises
    ------
    SearchError
        The same search is running already, or no trial came to its end.
    """
    study = Study(Path(home), data, settings, now, space or SearchSpace(), threads)
    with _alone(study.folder):
        already = study.ended
        while study.ended < settings.trials:
            study.try_next(progress)
        return _result(study, already)


def _result(study: Study, already: int) -> SearchResult:
    """Return what was found, and write it down."""
    past = study.past()
    complete = [trial for trial in past if trial.state == "complete"]
    if not complete:
        raise SearchError(
            f"none of {len(past)} trials came to its end: {past[-1].details.get('problem', past[-1].state)}",
            where=str(study.folder),
            remedy="train once without a search, and see what it says",
        )
    best = min(complete, key=lambda trial: float(trial.details["validation_loss"]))
    choice = draw(study.parameters, lambda name, _: best.details["parameters"][name])
    file = study.home / BEST_SETTINGS
    write_atomically(file, yaml.safe_dump(run_config(study.data, choice), sort_keys=False).encode())
    return SearchResult(study.name, tuple(past), best, choice, file, already)


def run_config(data: TrainingSet, choice: Choice) -> dict[str, Any]:
    """Return the Dagster run config of train_and_export with the settings that a trial of this training set had."""
    manifest = data.manifest
    names = choice.features(manifest.feature_names)
    config = training_set_config(choice.config(manifest.config), names, manifest.interval)
    return {"ops": {"training_set": {"config": config}}}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a search's folder, and leave nothing of it but what is to go on.

    Folders of other searches that nobody holds are of a former training set or of other settings: what one of them
    lacks to go on is trained again, and its trials stand in the ledger.
    """
    for other in folder.parent.glob("[!.]*"):
        if other != folder:
            remove_unless_held(other)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with at_once(folder):
            yield
            shutil.rmtree(folder, ignore_errors=True)
    except HeldError:
        raise SearchError(
            "the same search is running already", where=str(folder), remedy="wait for it, or stop it first"
        ) from None
