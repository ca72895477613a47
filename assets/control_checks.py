"""Checks of the forecaster: no skill where there is none, and skill where it was planted."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from assets.failures import explained
from assets.forecaster_runs import run_lock
from assets.model_bundle import judged_forecaster
from assets.platform import Platform
from assets.progress import StepProgress
from assets.skill import found_of_own_market
from assets.turns import turn_at
from training.controls.run import CONTROLS, LEAST_SHARE, ControlsReport, run_controls
from training.controls.verdicts import NoSkill
from training.controls.words import in_words

SHUFFLED, WALK, PLANTED = (
    "shuffled_labels_give_no_skill",
    "random_walk_gives_no_skill",
    "planted_signal_is_found",
)
_SPECS = [
    dg.AssetCheckSpec(
        SHUFFLED,
        asset="forecaster",
        blocking=True,
        description="Trained and judged on labels of other times, a forecaster must come out at chance: if not, labels"
        " reach its inputs, or the judgement is wrong.",
    ),
    dg.AssetCheckSpec(
        WALK,
        asset="forecaster",
        blocking=True,
        description="Trained and judged on a random walk, a forecaster must come out at chance: if not, a feature or a"
        " target looks ahead.",
    ),
    dg.AssetCheckSpec(
        PLANTED,
        asset="forecaster",
        blocking=True,
        description="On the built-in market, or on a small one simulated for the purpose, a forecaster finds the signal"
        " that the generator plants.",
    ),
]


LEAST_WINDOWS = 30_000
"""Training windows from which a signal planted in the home's own market can be found; with fewer, one is simulated."""


class ControlsForm(dg.Config):
    """What the controls ask for."""

    least_share: float = Field(
        default=LEAST_SHARE,
        ge=0,
        le=1,
        description="Share of the planted information to be found. Lower it for a trial that is too small to learn.",
    )


@dg.multi_asset_check(specs=_SPECS)
def forecaster_controls(
    context: dg.AssetCheckExecutionContext, config: ControlsForm, platform: Platform
) -> Iterator[dg.AssetCheckResult]:
    """Train on data whose best forecast is known, and hold what comes out against it; goes on where it was stopped."""
    report = _report(context, platform, config.least_share)
    words = in_words(report)
    for name, verdict in ((SHUFFLED, report.shuffled_labels), (WALK, report.random_walk)):
        if verdict is not None:
            yield _result(name, verdict.passed, words[name], _figures(verdict))
    if (found := report.planted_signal) is not None:
        figures = found.model_dump() | {"least_share": config.least_share, "market": report.planted_market}
        yield _result(PLANTED, found.share >= config.least_share, words[PLANTED], figures)


@explained
def _report(context: dg.AssetCheckExecutionContext, platform: Platform, least_share: float) -> ControlsReport:
    data, folder = judged_forecaster(platform.home)
    own = found_of_own_market(folder) if len(data.rows["train"]) >= LEAST_WINDOWS else None
    at, what = 0, ""

    def begun(name: str) -> None:
        nonlocal at, what
        at, what = CONTROLS.index(name), name.replace("_", " ")
        progress.update(at, len(CONTROLS), f"{what}: getting ready")

    with (
        turn_at(run_lock(platform.home, folder.name), context.log.info),
        StepProgress(context, "controls", "controls") as progress,
    ):
        return run_controls(
            data,
            data.manifest.config,
            folder,
            own_share=own,
            least_share=least_share,
            progress=begun,
            training=lambda p: progress.update(at + p.done / p.total, len(CONTROLS), f"{what}: {p}"),
        )


def _result(name: str, passed: bool, summary: str, figures: dict[str, Any]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key="forecaster",
        check_name=name,
        passed=passed,
        metadata={"summary": summary, **figures},
    )


def _figures(verdict: NoSkill) -> dict[str, Any]:
    return {
        "rows": verdict.rows,
        "level": verdict.level,
        "auc_sign": dg.MetadataValue.json(verdict.auc_sign.model_dump()),
        "log_loss_gain": dg.MetadataValue.json(verdict.log_loss_gain.model_dump()),
    }
