"""Asset `architecture_search`: forecasters of other settings and features, compared on the validation split."""

from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field, create_model

from assets.failures import explained
from assets.forms import form_fields
from assets.metadata import line_plot, table
from assets.model_state import training_set_folder
from assets.platform import Platform
from assets.progress import StepProgress
from training.data.training_set import TrainingSet
from training.lifecycle.search import SearchResult, search
from training.lifecycle.search_space import SearchSpace
from training.lifecycle.study import SearchSettings
from training.lifecycle.trials import count_trials
from training.progress import Progress

_Settings = create_model("_Settings", __base__=dg.Config, **form_fields(SearchSettings))


class SearchForm(_Settings):  # type: ignore[valid-type,misc]
    """How much a search tries."""

    features: bool = Field(default=True, description="Whether groups of features may be left out.")


@dg.asset(
    deps=["training_set"],
    group_name="forecaster",
    kinds={"python", "optuna"},
    code_version="1",
    owners=["team:forecasting"],
)
@explained
def architecture_search(
    context: dg.AssetExecutionContext, config: SearchForm, platform: Platform
) -> dg.MaterializeResult:
    """Forecasters of other settings and features, tried on the newest training set; its test split is not looked at."""
    data = TrainingSet.load(training_set_folder(platform.home))
    settings = SearchSettings(**config.model_dump(exclude={"features"}))
    with StepProgress(context, "search", "trials") as progress:

        def tell(number: int, p: Progress) -> None:
            progress.update(number + p.done / p.total, settings.trials, f"trial {number + 1}, {p}")

        progress.say("getting ready")
        found = search(
            platform.home,
            data,
            settings,
            now=platform.now_ms,
            space=SearchSpace(features=config.features),
            progress=tell,
        )
    context.log.info(in_words(found))
    return dg.MaterializeResult(metadata=_metadata(found, count_trials(platform.home)))


def _command(found: SearchResult) -> str:
    return f"klinecast run train_and_export --config {found.settings_file}"


def in_words(found: SearchResult) -> str:
    """Say what was there already, whether anything is better than what there is, and how to train with it."""
    return "; ".join(filter(None, (_kept_in_words(found), _verdict_in_words(found))))


def _kept_in_words(found: SearchResult) -> str:
    """Say how many trials were not tried again, since the same search had tried them before; empty where none was."""
    if not found.already:
        return ""
    if found.already < len(found.trials):
        return (
            f"{found.already} of {len(found.trials)} trials were already there, from the same search before"
        )
    return f"already there: all {len(found.trials)} trials, of the same data and settings (a higher `trials` goes on)"


def _verdict_in_words(found: SearchResult) -> str:
    best, tried = float(found.best.details["validation_loss"]), len(found.trials)
    with_it = f"to train with it: {_command(found)}"
    if found.gained is None:
        return (
            f"the present settings came to no end ({found.trials[0].state}); the best of {tried} trials has a"
            f" validation loss of {best:.4f}; {with_it}"
        )
    if not found.gained:
        return (
            f"none of {tried} trials is better than the present settings, whose validation loss is {best:.4f}:"
            " nothing to change"
        )
    return (
        f"the best of {tried} trials has a validation loss of {best:.4f}, {found.gained:.4f} below that of the present"
        f" settings; the lowest of many is too low by chance, and promotion counts them all; {with_it}"
    )


def _metadata(found: SearchResult, tried: int) -> dict[str, Any]:
    rows = [
        {
            "trial": int(trial.details["number"]) + 1,
            "state": trial.state,
            "validation loss": trial.details.get("validation_loss"),
            **{name: str(value) for name, value in trial.details["parameters"].items()},
            "problem": trial.details.get("problem", ""),
        }
        for trial in found.trials
    ]
    losses = {
        f"trial {int(trial.details['number']) + 1}": (
            [int(epoch) for epoch in trial.details["losses"]],
            list(trial.details["losses"].values()),
        )
        for trial in found.trials
        if trial.details.get("losses")
    }
    return {
        "summary": in_words(found),
        "better_than_present_settings": found.gained is None or found.gained > 0,
        "best": dg.MetadataValue.json(found.best.details["parameters"]),
        "trials": table(pl.DataFrame(rows)),
        "losses": line_plot(losses, x_label="epoch", y_label="validation loss"),
        "trials_in_ledger": tried,
        "run_config": dg.MetadataValue.path(found.settings_file),
        "train_with_it": _command(found) if found.gained != 0 else "nothing to change",
    }
