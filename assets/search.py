"""Asset `architecture_search`: forecasters of other settings and features, compared on the validation split."""

from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets.failures import explained
from assets.metadata import line_plot, table
from assets.model_state import training_set_folder
from assets.platform import Platform
from assets.progress import StepProgress
from training.data.training_set import TrainingSet
from training.lifecycle.search import SearchResult, SearchSettings, search
from training.lifecycle.search_space import SearchSpace
from training.lifecycle.trials import count_trials
from training.progress import Progress

_FIELDS = SearchSettings.model_fields


class SearchForm(dg.Config):
    """How much a search tries."""

    trials: int = Field(
        default=_FIELDS["trials"].default, ge=1, le=1_000, description=_FIELDS["trials"].description
    )
    epochs: int = Field(default=_FIELDS["epochs"].default, ge=1, description=_FIELDS["epochs"].description)
    max_windows: int = Field(
        default=_FIELDS["max_windows"].default, ge=1, description=_FIELDS["max_windows"].description
    )
    seed: int = Field(default=_FIELDS["seed"].default, ge=0, description=_FIELDS["seed"].description)
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
            part = ((p.epoch - 1) * p.steps + p.step) / (p.epochs * p.steps)
            progress.update(
                number + part, settings.trials, f"trial {number + 1}, epoch {p.epoch}, loss {p.loss:.4f}"
            )

        found = search(
            platform.home,
            data,
            settings,
            at=platform.now_ms(),
            space=SearchSpace(features=config.features),
            progress=tell,
        )
    context.log.info(f"train with the best settings: {_command(found)}")
    return dg.MaterializeResult(metadata=_metadata(found, count_trials(platform.home)))


def _command(found: SearchResult) -> str:
    return f"klinecast run train_and_export --config {found.settings_file}"


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
    first = found.trials[0].details.get("validation_loss")
    best = float(found.best.details["validation_loss"])
    than = "" if first is None else f", {first:.4f} with the present settings"
    return {
        "summary": f"best of {len(found.trials)} trials: validation loss {best:.4f}{than}; {_command(found)}",
        "best": dg.MetadataValue.json(found.best.details["parameters"]),
        "trials": table(pl.DataFrame(rows)),
        "losses": line_plot(losses, x_label="epoch", y_label="validation loss"),
        "trials_in_ledger": tried,
        "run_config": dg.MetadataValue.path(found.settings_file),
        "train_with_it": _command(found),
    }
