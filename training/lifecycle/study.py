"""The study behind a search: what is proposed next, its training, and how it ended.

Optuna proposes (TPE, Bergstra et al. 2011) and prunes (a trial whose validation loss after an epoch is above the median
of the others' after as many). Its study lives in memory and is told anew, from the ledger of trials, whenever a search
begins: there is one record of what was tried. What is proposed depends on the seed, the number of the trial and the
trials before it, so that a search that was killed and begun again proposes the same, and goes on with the training that
was interrupted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.data.dataset import evenly
from training.data.feature_choice import choose_features
from training.data.training_set import TrainingSet
from training.errors import TrainingError
from training.lifecycle.search_space import Choice, SearchSpace, draw
from training.lifecycle.trials import Clock, State, Trial, read_trials, record_trial, trial_name
from training.progress import Progress

SEARCHES = Path("training") / "searches"
KIND = "search"

_STATES = {
    "complete": optuna.trial.TrialState.COMPLETE,
    "pruned": optuna.trial.TrialState.PRUNED,
    "failed": optuna.trial.TrialState.FAIL,
}
_RANDOM_FIRST, _UNPRUNED_FIRST, _PROPOSALS = 4, 3, 10

SearchProgress = Callable[[int, Progress], None]
"""Number of the trial, from 0, and how far its training is."""


class SearchSettings(BaseModel):
    """How much a search tries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(
        default=8, ge=1, le=1_000, description="forecasters tried in all, the present settings first"
    )
    epochs: int = Field(default=2, ge=1, description="epochs of each, unless it is pruned")
    max_windows: int = Field(default=20_000, ge=1, description="training windows of each, evenly over time")
    seed: int = Field(default=1, ge=0, lt=2**31, description="of the proposals")


class Study:
    """What Optuna knows of a search, told from the ledger, and the next trial.

    Attributes
    ----------
    name
        Hash of what the proposals depend on.
    folder
        Where trials are trained.
    ended
        Trials that came to an end.
    """

    def __init__(
        self,
        home: Path,
        data: TrainingSet,
        settings: SearchSettings,
        now: Clock,
        space: SearchSpace,
        threads: int | None,
    ) -> None:
        manifest = data.manifest
        self.home, self.data, self.settings, self.now, self.threads = home, data, settings, now, threads
        self.parameters = space.parameters(manifest.config, manifest.feature_names)
        scope = [
            settings.model_dump(exclude={"trials"}),
            manifest.training_set_id,
            manifest.config.model_dump(mode="json"),
            {name: list(values) for name, values in self.parameters.items()},
        ]
        self.name = trial_name("study", *scope)
        self.folder = home / SEARCHES / self.name
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(values)
            for name, values in self.parameters.items()
        }
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            direction="minimize", pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED_FIRST)
        )
        past = self.past()
        for trial in past:
            self.study.add_trial(self._told(trial))
        self.ended = len(past)

    def past(self) -> list[Trial]:
        """Trials of this study that came to an end, in their order."""
        mine = [t for t in read_trials(self.home) if t.details.get("study") == self.name]
        ended = [t for t in mine if t.state in ("complete", "pruned", "failed")]
        return sorted(ended, key=lambda t: int(t.details["number"]))

    def try_next(self, progress: SearchProgress | None) -> None:
        """Train what is proposed next, and write down how it went."""
        number = self.ended
        proposed, choice = self._propose(number)
        name = trial_name(self.name, number, proposed.params)
        losses = self._losses_before(name)
        for epoch, loss in losses.items():
            proposed.report(loss, epoch)
        facts = {"study": self.name, "number": number, "parameters": proposed.params}
        self._record(name, "begun", **facts)

        def report(p: Progress) -> None:
            if progress is not None:
                progress(number, p)
            if p.validation_loss is None:
                return
            losses[p.epoch] = p.validation_loss
            self._record(name, "begun", losses=_keyed(losses))
            proposed.report(p.validation_loss, p.epoch)
            if p.epoch < p.epochs and proposed.should_prune():
                raise optuna.TrialPruned

        work = self.folder / name
        try:
            self._train(choice, work, report)
        except optuna.TrialPruned:
            self._end(proposed, name, "pruned", losses)
        except (TrainingError, ValidationError) as error:
            self._end(proposed, name, "failed", losses, problem=_told_shortly(error))
        except BaseException:  # not the fault of these settings: the same trial goes on when the search does
            self._record(name, "interrupted")
            raise
        else:
            self._end(proposed, name, "complete", losses, validation_loss=min(losses.values()))
        shutil.rmtree(work, ignore_errors=True)

    def _propose(self, number: int) -> tuple[optuna.Trial, Choice]:
        """Draw what to try next, something new if a few proposals have it."""
        if number == 0:
            self.study.enqueue_trial({name: values[0] for name, values in self.parameters.items()})
        tried = [trial.params for trial in self.study.trials if trial.state.is_finished()]
        for attempt in range(_PROPOSALS):
            self.study.sampler = optuna.samplers.TPESampler(
                n_startup_trials=_RANDOM_FIRST,
                seed=int(trial_name(self.settings.seed, number, attempt)[:8], 16),
            )
            proposed = self.study.ask()
            choice = draw(self.parameters, proposed.suggest_categorical)
            if proposed.params not in tried or attempt == _PROPOSALS - 1:
                break
            self.study.tell(proposed, state=optuna.trial.TrialState.FAIL)
        return proposed, choice

    def _train(self, choice: Choice, work: Path, report: Callable[[Progress], None]) -> None:
        from training.fitting.fit import train
        from training.network.backend import keras  # TensorFlow: not for those who only look at a search

        config = choice.config(self.data.manifest.config).model_copy(update={"epochs": self.settings.epochs})
        data = self.data
        if choice.left_out_groups:
            data = choose_features(data, choice.features(data.feature_names), work / "set")
        rows = data.rows["train"]
        kept = rows[evenly(len(rows), self.settings.max_windows, self.settings.seed)]
        seen = replace(data, rows={"train": kept, "validation": data.rows["validation"]})
        try:
            train(seen, config, work / "forecaster", report, threads=self.threads)
        finally:
            keras.backend.clear_session()  # else the graphs of all trials stay in memory

    def _end(
        self, proposed: optuna.Trial, name: str, state: State, losses: dict[int, float], **facts: Any
    ) -> None:
        """Write down how a trial ended, and tell the study."""
        self._record(name, state, losses=_keyed(losses), **facts)
        self.study.tell(proposed, facts.get("validation_loss"), state=_STATES[state])
        self.ended += 1

    def _record(self, name: str, state: State, **facts: Any) -> None:
        record_trial(self.home, name, kind=KIND, state=state, at=self.now(), **facts)

    def _losses_before(self, name: str) -> dict[int, float]:
        """Return the validation losses of a trial's epochs before it was interrupted."""
        found = [trial for trial in read_trials(self.home) if trial.trial == name]
        return _losses(found[0]) if found else {}

    def _told(self, trial: Trial) -> optuna.trial.FrozenTrial:
        """Return a past trial as Optuna keeps it."""
        return optuna.trial.create_trial(
            state=_STATES[trial.state],
            value=trial.details.get("validation_loss"),
            params=trial.details["parameters"],
            distributions=self.distributions,
            intermediate_values=_losses(trial),
        )


def _told_shortly(error: TrainingError | ValidationError) -> str:
    return error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.what


def _losses(trial: Trial) -> dict[int, float]:
    return {int(epoch): float(loss) for epoch, loss in trial.details.get("losses", {}).items()}


def _keyed(losses: dict[int, float]) -> dict[str, float]:
    return {str(epoch): loss for epoch, loss in losses.items()}
