"""Asset `champion`: the version that predictions are made with, after the newest one has been held against it."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import create_model

from assets.errors import NotMadeYetError
from assets.failures import explained
from assets.forms import form_fields
from assets.metadata import table
from assets.model_bars import bars_for
from assets.model_bundle import newest_bundle
from assets.model_cards import checks_in_words, publish_card
from assets.platform import Platform
from assets.progress import StepProgress
from assets.wording import utc
from training.lifecycle.promotion import PromotionSettings, promote
from training.lifecycle.registry import Decision, champion_manifest, champion_version, list_models

_Settings = create_model("_Settings", __base__=dg.Config, **form_fields(PromotionSettings))


class ChampionForm(_Settings):  # type: ignore[valid-type,misc]
    """How strict a promotion is; docs/models.md says what each means."""


@dg.asset(
    deps=["judgement", "onnx_model", "tflite_model"],
    group_name="forecaster",
    kinds={"python", "onnx"},
    code_version="1",
    owners=["team:forecasting"],
)
@explained
def champion(
    context: dg.AssetExecutionContext, config: ChampionForm, platform: Platform
) -> dg.MaterializeResult:
    """The version that predictions are made with: the newest one only if it is better on bars that neither has seen."""
    home = platform.home
    challenger = newest_bundle(home)
    if challenger is None:
        raise NotMadeYetError(
            "nothing of the newest forecaster was exported yet",
            where=str(home / "models"),
            remedy="materialise `onnx_model` first: klinecast run train_and_export",
        )
    with StepProgress(context, "promotion", "models") as progress:
        progress.say(_beginning(challenger.name, champion_version(home)))
        manifest = publish_card(home, challenger)
        decision = promote(
            home,
            challenger,
            bars_for(platform, [manifest, champion_manifest(home)]),
            now=platform.now_ms,
            by=f"asset champion, run {context.run_id[:8]}",
            checks=checks_in_words(home, challenger),
            settings=PromotionSettings(**config.model_dump()),
        )
    context.log.info(decision.words)
    return dg.MaterializeResult(metadata=_metadata(home, decision))


def _beginning(challenger: str, champion: str | None) -> str:
    """Say what is about to be done."""
    if champion is None:
        return f"{challenger}: there is no champion yet to hold it against"
    if champion == challenger:
        return f"{challenger} is the champion already"
    return f"holding {challenger} against the champion, {champion}, on bars that neither has seen"


def _metadata(home: Path, decision: Decision) -> dict[str, Any]:
    figures = decision.figures
    rows = [
        {
            "model": version,
            "role": role,
            **{f"loss, {name}": value for name, value in figures[f"loss_{role}"].items()},
            "gain over base rate": figures[f"base_{role}"]["total"] - figures[f"loss_{role}"]["total"],
        }
        for role, version in (("champion", decision.champion), ("challenger", decision.challenger))
        if figures.get(f"loss_{role}")
    ]
    models = [
        {
            "version": entry.version,
            "made": utc(entry.manifest.created_at) if entry.manifest else "",
            "champion": "yes" if entry.is_champion else "",
            "last decision": entry.decisions[-1].words if entry.decisions else "",
        }
        for entry in list_models(home)
    ]
    return {
        "summary": decision.words,
        "model_version": next((entry.version for entry in list_models(home) if entry.is_champion), "none"),
        "verdict": decision.verdict,
        "reason": decision.reason,
        "challenger": decision.challenger,
        "champion_before": decision.champion or "none",
        "trials_in_ledger": decision.trials_in_ledger,
        "comparison": table(pl.DataFrame(rows)) if rows else "nothing was compared",
        "figures": dg.MetadataValue.json(figures),
        "models": table(pl.DataFrame(models)),
    }
