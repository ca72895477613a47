"""Asset `judgement`: the forecaster's recipe walked forward beside its baselines, told in words, figures and a page."""

import shutil
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets.errors import SettingsError
from assets.failures import explained
from assets.metadata import line_plot, table
from assets.model_state import judgement_folder, judgement_workdir, training_set_folder
from assets.platform import Platform
from assets.progress import StepProgress
from training.baselines.registry import BASELINES
from training.data.training_set import TrainingSet
from training.files import new_folder
from training.judgement import Judgement, JudgementSettings, in_words, judge_folds
from training.judgement.forecasts import FORECASTER
from training.judgement.names import FORECASTS, SCORES, number, span
from training.judgement.results import JUDGEMENT_FILE, REPORT_FILE, Figure
from training.judgement.words import headline


class JudgementForm(dg.Config):
    """How thoroughly the forecaster is judged; it is trained anew in each fold, on fewer windows by default."""

    folds: int = Field(default=2, ge=1, description="Walk-forward test spans.")
    max_windows: int = Field(default=1_500, ge=1, description="Training windows of a fold.")
    validation_windows: int = Field(default=1_000, ge=1, description="Validation windows of a fold.")
    epochs: int = Field(default=1, ge=1, description="Epochs of each training.")
    newest_share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Share of the history that is judged, the newest; all before it is learned from.",
    )
    baselines: list[str] = Field(default=list(BASELINES), description="Forecasts to compare with.")
    draws: int = Field(default=300, ge=20, description="Resampled data sets behind the intervals.")
    fee_bps: float = Field(default=5.0, ge=0, description="Fee per side, in 1/10,000 of what is traded.")
    slippage_bps: float = Field(default=1.0, ge=0, description="Slippage per side, likewise.")
    trade_share: float = Field(
        default=0.2, gt=0, le=1, description="Share of bars acted on, the surest ones."
    )


@dg.asset(
    deps=["forecaster"],
    group_name="forecaster",
    kinds={"python", "keras", "lightgbm"},
    code_version="1",
    owners=["team:forecasting"],
)
@explained
def judgement(
    context: dg.AssetExecutionContext, config: JudgementForm, platform: Platform
) -> dg.MaterializeResult:
    """How good the forecaster is beside simple forecasts, fold by fold, with intervals, and said where it is not."""
    settings = _settings(config)
    data = TrainingSet.load(training_set_folder(platform.home))
    limits = {name: getattr(config, name) for name in ("max_windows", "validation_windows", "epochs")}
    wanted = data.manifest.config.model_copy(update=limits)
    work = judgement_workdir(platform.home, data.manifest.training_set_id)
    with StepProgress(context, "judging", "forecasts") as progress:
        count = 1 + len(settings.baselines)
        found = judge_folds(
            data,
            wanted,
            work,
            settings=settings,
            begun=lambda fold, name: progress.update(
                fold * count + [FORECASTER, *settings.baselines].index(name),
                settings.folds * count,
                f"fold {fold + 1}, {FORECASTS[name]}",
            ),
        )
    folder = judgement_folder(platform.home, found.judgement_id)
    with new_folder(folder) as new:
        for name in (JUDGEMENT_FILE, REPORT_FILE):
            shutil.copyfile(work / name, new / name)
    shutil.rmtree(work)
    return dg.MaterializeResult(metadata=_metadata(found) | _files(str(folder)))


def _settings(form: JudgementForm) -> JudgementSettings:
    unknown = [name for name in form.baselines if name not in BASELINES]
    if unknown:
        raise SettingsError(
            f"there is no baseline {', '.join(unknown)}",
            where="the run config of judgement",
            remedy=f"choose among {', '.join(BASELINES)}",
        )
    shared = ("folds", "draws", "fee_bps", "slippage_bps", "trade_share")
    return JudgementSettings(
        **{name: getattr(form, name) for name in shared},
        baselines=tuple(form.baselines),
        min_train_share=1 - form.newest_share,
    )


def _files(folder: str) -> dict[str, Any]:
    return {
        "report": dg.MetadataValue.path(f"{folder}/{REPORT_FILE}"),
        "folder": dg.MetadataValue.path(folder),
    }


def _metadata(found: Judgement) -> dict[str, Any]:
    own = found.reliability.get(FORECASTER, {})
    calibration = {
        f"P({name})": ([b.said for b in bins], [b.came for b in bins]) for name, bins in own.items()
    }
    earned = {
        FORECASTS[name]: (range(len(curve.value)), curve.value)
        for name, curve in found.curves.items()
        if name == FORECASTER or any(curve.value)
    }
    return {
        "summary": headline(found),
        "words": dg.MetadataValue.md("\n".join(f"- {line}" for line in in_words(found))),
        "judgement_id": found.judgement_id,
        "scores": table(_scores(found)),
        "verdicts": table(_verdicts(found), rows=100),
        "calibration": line_plot(calibration, x_label="probability said", y_label="frequency"),
        "net_returns": line_plot(
            earned, x_label="time, in parts of the judged span", y_label="sum of net returns"
        ),
        "settings": dg.MetadataValue.json(found.settings.model_dump(mode="json")),
        "training_windows": found.config.max_windows,
    }


def _scores(found: Judgement) -> pl.DataFrame:
    names = [score for score in SCORES if any(score in scores for scores in found.scores.values())]
    rows = [
        {"forecast": FORECASTS[name]}
        | {SCORES[score]: _told(score, scores[score]) if score in scores else "" for score in names}
        for name, scores in found.scores.items()
    ]
    return pl.DataFrame(rows)


def _verdicts(found: Judgement) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "against": FORECASTS[d.baseline],
                "score": SCORES[d.score],
                "verdict": d.verdict,
                "difference": _told(d.score, d.figure, signed=True),
                "folds in favour": f"{d.folds_better} of {d.folds}",
            }
            for d in found.differences
        ]
    )


def _told(score: str, figure: Figure, *, signed: bool = False) -> str:
    interval = span(score, figure.low, figure.high, signed=signed)
    return f"{number(score, figure.value, signed=signed)} {interval}".strip()
