"""Asset `training_set`: windows, targets and splits that the forecaster learns from."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets.failures import explained
from assets.forecaster_config import ForecasterForm, forecaster_config
from assets.metadata import table, utc
from assets.model_state import forecaster_folder, training_set_folder
from assets.platform import Platform
from kernels.catalogue import model_features
from kernels.compute import FeatureBlock
from kernels.feature_store import open_latest
from training.config import CLASSES, ForecasterConfig
from training.dataset import TrainingSet, TrainingSetManifest, build_training_set
from training.forecaster_files import META_FILE


class TrainingSetForm(ForecasterForm):  # type: ignore[valid-type,misc]
    """The forecaster's settings, and whether an interrupted training goes on."""

    continue_unfinished: bool = Field(
        default=True, description="Keep the training set of an interrupted training, so that it can go on."
    )


@dg.asset(
    deps=["features"],
    group_name="forecaster",
    kinds={"python", "numpy"},
    code_version="1",
    owners=["team:forecasting"],
)
@explained
def training_set(
    context: dg.AssetExecutionContext, config: TrainingSetForm, platform: Platform
) -> dg.MaterializeResult:
    """Feature windows with their targets, split by time with purge and embargo; every left-out row is counted."""
    settings = forecaster_config(config)
    found = _unfinished(platform.home, settings) if config.continue_unfinished else None
    if found is not None:
        context.log.info("the last training was interrupted; its training set is kept, and it goes on")
    made = found or _build(platform, settings)
    return dg.MaterializeResult(metadata=_metadata(made.manifest, made.path))


def _build(platform: Platform, settings: ForecasterConfig) -> TrainingSet:
    interval = platform.settings.forecast_interval
    block = _for_model(open_latest(platform.home, interval))
    with platform.store() as store:
        first, last = int(block.open_time[0]), int(block.open_time[-1])
        panel = store.panel(interval, block.symbols, start=first, end=last + 1, columns=("close",))
    return build_training_set(
        block, panel.columns["close"], interval, settings, training_set_folder(platform.home)
    )


def _for_model(block: FeatureBlock) -> FeatureBlock:
    """Keep the features that the forecaster is fed with, in its order, as far as the bars allow them."""
    names = tuple(name for name in model_features() if name in block.names)
    at = [block.names.index(name) for name in names]
    return FeatureBlock(block.values[at], names, block.open_time, block.symbols)


def _unfinished(home: Path, settings: ForecasterConfig) -> TrainingSet | None:
    """Return the training set whose training was begun with these settings and not ended."""
    folder = training_set_folder(home)
    if not folder.is_dir():
        return None
    found = TrainingSet.load(folder)
    work = forecaster_folder(home, found.manifest.training_set_id)
    begun_not_ended = work.is_dir() and not (work / META_FILE).is_file()
    return found if begun_not_ended and found.manifest.config == settings else None


def _metadata(manifest: TrainingSetManifest, folder: Path) -> dict[str, Any]:
    rows = {name: span.rows for name, span in manifest.spans.items()}
    spans = [
        {
            "split": name,
            "windows": span.rows,
            "first": utc(span.first_open_time),
            "last": utc(span.last_open_time),
            **dict(zip(CLASSES, manifest.class_share[name], strict=True)),
        }
        for name, span in manifest.spans.items()
    ]
    return {
        "summary": f"{sum(rows.values()):,} windows of {manifest.config.window} {manifest.interval} bars x"
        f" {len(manifest.feature_names)} features ({', '.join(f'{n:,} {name}' for name, n in rows.items())})",
        "dagster/row_count": sum(rows.values()),
        "training_set_id": manifest.training_set_id,
        "splits": table(pl.DataFrame(spans)),
        "left_out": table(
            pl.DataFrame({"why": list(manifest.counts), "rows": list(manifest.counts.values())})
        ),
        "features": dg.MetadataValue.json(list(manifest.feature_names)),
        "folder": dg.MetadataValue.path(folder),
    }
