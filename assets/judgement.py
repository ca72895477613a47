"""Asset `judgement`: the forecaster's recipe walked forward beside its baselines, told in words, figures and a page."""

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field, create_model

from assets.errors import GivenValueError, NotMadeYetError
from assets.failures import explained
from assets.forms import form_fields
from assets.metadata import line_plot, table
from assets.model_bundle import judged_forecaster, version_folder
from assets.model_state import judgement_folder, judgement_lock, judgement_workdir, training_set_folder
from assets.platform import Platform
from assets.progress import StepProgress
from assets.source import claimed_source, is_simulated
from assets.turns import remove_at_turn, turn_at
from assets.wording import utc
from training.baselines.registry import BASELINES
from training.config import ForecasterConfig
from training.data.training_set import TrainingSet
from training.files import new_folder
from training.judgement import About, Judgement, JudgementSettings, in_words, judge_folds
from training.judgement.forecasts import FORECASTER
from training.judgement.kept import find_kept, made_from, write_kept
from training.judgement.names import FORECASTS, SCORES, number, span
from training.judgement.results import REPORT_FILE, Figure
from training.judgement.settings import OWN_LIMITS
from training.judgement.words import headline

_Settings = create_model(
    "_Settings",
    __base__=dg.Config,
    **form_fields(
        JudgementSettings, [name for name in JudgementSettings.model_fields if name != "min_train_share"],
        folds=2, draws=300,
    ),
    **form_fields(ForecasterConfig, OWN_LIMITS, max_windows=1_500, validation_windows=1_000, epochs=1),
)  # fmt: skip


class JudgementForm(_Settings):  # type: ignore[valid-type,misc]
    """How thoroughly the forecaster is judged; it is trained anew in each fold, on fewer windows by default."""

    newest_share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Share of the history that is judged, the newest; all before it is learned from.",
    )
    again: bool = Field(
        default=False, description="Judge again although the same judgement is there, by the same code."
    )

    def check(self) -> None:
        """Refuse baselines that there are not."""
        _settings(self)


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
    wanted = data.manifest.config.model_copy(update={name: getattr(config, name) for name in OWN_LIMITS})
    made = made_from(data, wanted, settings)
    set_id = data.manifest.training_set_id
    with turn_at(judgement_lock(platform.home, set_id), context.log.info):
        _clear_other_work(platform.home, set_id)
        kept = None if config.again else find_kept(judgement_folder(platform.home, "any").parent, made)
        if kept is not None:
            folder, found, record = kept
            when = utc(record.about.judged_at)
            already = f"already there: judged at {when} from the same data and settings by the same code"
            context.log.info(f"{already}; its files are whole")
            about = _about(platform, record.about.judged_at)
            if about != record.about:  # it belongs to another version of the same recipe by now
                _publish(platform.home, found, about, made)
            return dg.MaterializeResult(metadata=_metadata(found, already) | _files(str(folder)))
        work = judgement_workdir(platform.home, set_id)
        with StepProgress(context, "judging", "forecasts") as progress:
            found = _judged(data, wanted, settings, work, progress)
        folder = _publish(platform.home, found, _about(platform, platform.now_ms()), made)
        shutil.rmtree(work)
    return dg.MaterializeResult(metadata=_metadata(found) | _files(str(folder)))


def _publish(home: Path, found: Judgement, about: About, made: str) -> Path:
    folder = judgement_folder(home, found.judgement_id)
    with new_folder(folder) as new:
        write_kept(new, found, about, made)
    return folder


def _about(platform: Platform, judged_at: int) -> About:
    """Say what the report belongs to: the version of the newest forecaster, which may be published later."""
    home = platform.home
    try:
        version = version_folder(home, judged_forecaster(home)[1]).name
    except NotMadeYetError:
        version = None
    market = claimed_source(home) or ""
    return About(model_version=version, judged_at=judged_at, market=market, simulated=is_simulated(market))


def _clear_other_work(home: Path, set_id: str) -> None:
    """Remove what interrupted judgements on former training sets left: those sets are gone, and nobody goes on."""
    mine = judgement_workdir(home, set_id)
    for work in mine.parent.glob(judgement_workdir(home, "*").name):
        lock = judgement_lock(home, work.name.removeprefix(judgement_workdir(home, "").name))
        if work != mine:
            remove_at_turn(lock, work)


def _judged(
    data: TrainingSet,
    wanted: ForecasterConfig,
    settings: JudgementSettings,
    work: Path,
    progress: StepProgress,
) -> Judgement:
    """Judge, and tell how far that is: the scores count as much as one forecast a fold."""
    names = [FORECASTER, *settings.baselines]
    forecasts = settings.folds * len(names)
    total = forecasts + settings.folds
    at, what = 0, ""

    def begun(fold: int, name: str) -> None:
        nonlocal at, what
        at, what = fold * len(names) + names.index(name), f"fold {fold + 1}, {FORECASTS[name]}"
        progress.update(at, total, what)

    return judge_folds(
        data,
        wanted,
        work,
        settings=settings,
        begun=begun,
        progress=lambda p: progress.update(at + p.done / p.total, total, f"{what}, {p}"),
        scoring=lambda n, of: progress.update(forecasts + settings.folds * n / of, total, "scores"),
    )


def _settings(form: JudgementForm) -> JudgementSettings:
    unknown = [name for name in form.baselines if name not in BASELINES]
    if unknown:
        raise GivenValueError(
            f"there is no baseline {', '.join(unknown)}",
            where="ops.judgement.config.baselines in the run config",
            remedy=f"choose among {', '.join(BASELINES)}",
        )
    given = form.model_dump(include=set(JudgementSettings.model_fields))
    return JudgementSettings(**given, min_train_share=1 - form.newest_share)


def _files(folder: str) -> dict[str, Any]:
    return {
        "report": dg.MetadataValue.path(f"{folder}/{REPORT_FILE}"),
        "folder": dg.MetadataValue.path(folder),
    }


def _metadata(found: Judgement, already: str = "") -> dict[str, Any]:
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
        "summary": f"{already}; {headline(found)}" if already else headline(found),
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
