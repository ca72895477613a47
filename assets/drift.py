"""Asset `drift`: whether the market looks as it did when the served model learned, and how its predictions did."""

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field

from assets.drift_report import drift_of, served_skill_of
from assets.errors import NotMadeYetError
from assets.failures import explained
from assets.metadata import bar_plot, line_plot, table
from assets.platform import Platform
from assets.settings import Settings
from assets.state_files import write_json
from assets.wording import utc
from training.export.manifest import Manifest
from training.lifecycle.registry import champion_manifest
from training.monitoring.drift import FLOOR, DriftReport
from training.monitoring.served_skill import ServedSkill

_PLOTTED = 12


class DriftForm(dg.Config):
    """How far back is recent."""

    days: int = Field(
        default=Settings.model_fields["drift_days"].default,
        ge=1,
        description="The newest so many days are held against the training span.",
    )


@dg.asset(
    deps=["features", "champion"],
    group_name="forecaster",
    kinds={"python", "scipy"},
    code_version="1",
    owners=["team:forecasting"],
)
@explained
def drift(config: DriftForm, platform: Platform) -> dg.MaterializeResult:
    """Drift of the features since the served model's training, and the skill of its predictions period by period."""
    manifest = champion_manifest(platform.home)
    if manifest is None:
        raise NotMadeYetError(
            "no model is served yet whose features could have drifted",
            where=str(platform.home / "models"),
            remedy="make one first: klinecast run train_and_export",
        )
    features = drift_of(platform.home, manifest, config.days)
    with platform.store() as store:
        skill = served_skill_of(store, manifest)
    write_json(
        drift_file(platform.home),
        {
            "model_version": manifest.model_version,
            "created_at": platform.now_ms(),
            "days": config.days,
            "drifted": features.drifted,
            "worse_than_a_coin": skill.worse,
            "features": features.model_dump(mode="json"),
            "skill": skill.model_dump(mode="json"),
        },
    )
    return dg.MaterializeResult(metadata=_metadata(manifest, config.days, features, skill))


def drift_file(home: Path) -> Path:
    """Return where the newest report lies."""
    return home / "training" / "drift.json"


def _metadata(manifest: Manifest, days: int, features: DriftReport, skill: ServedSkill) -> dict[str, Any]:
    pieces = np.arange(1, len(features.over_time) + 1)
    beyond, mean = np.array(features.over_time).T
    told: dict[str, Any] = {
        "summary": f"{features.words}; {skill.words}",
        "model_version": manifest.model_version,
        "days": days,
        "drifted": features.drifted,
        "worse_than_a_coin": skill.worse,
        "features": table(pl.DataFrame([one.model_dump() for one in features.features])),
        "distance": bar_plot(
            {one.feature: one.distance for one in features.features[:_PLOTTED]}, y_label="standard deviations"
        ),
        "over_time": line_plot(
            {f"share of features beyond {FLOOR:g}": (pieces, beyond), "mean distance": (pieces, mean)},
            x_label="pieces of the training span, the newest days last",
            y_label="drift",
        ),
        "outcomes_known": skill.rows,
    }
    if skill.periods:
        numbers = np.arange(1, len(skill.periods) + 1)
        told["skill"] = table(
            pl.DataFrame(
                [
                    one.model_dump(exclude={"first_open_time", "last_open_time"})
                    | {"first": utc(one.first_open_time), "last": utc(one.last_open_time)}
                    for one in skill.periods
                ]
            )
        )
        told["skill_over_time"] = line_plot(
            {
                "AUC of the sign": (numbers, [one.auc_sign or np.nan for one in skill.periods]),
                "log loss of the sign": (numbers, [one.sign_log_loss for one in skill.periods]),
                "coverage": (numbers, [one.coverage for one in skill.periods]),
            },
            x_label="period",
            y_label="score",
        )
    return told
