"""Asset `training_set`: windows, targets and splits that the forecaster learns from."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets.choices import require_intervals
from assets.errors import GivenValueError
from assets.failures import explained
from assets.forecaster_config import ForecasterForm, forecaster_config
from assets.forecaster_runs import begun_not_ended
from assets.metadata import table, utc
from assets.model_state import training_set_folder
from assets.platform import Platform
from assets.progress import StepProgress
from kernels.catalogue import joined_features, model_features
from kernels.feature_store import open_latest
from kernels.joins import IntervalFeatures, JoinedFeatures
from market.intervals import interval_ms
from training.config import CLASSES, ForecasterConfig
from training.data.dataset import TrainingSet, TrainingSetManifest, build_training_set
from training.data.feature_choice import feature_groups, scales, without_groups
from training.errors import TrainingSetError


class TrainingSetForm(ForecasterForm):
    """The forecaster's settings, and whether an interrupted training goes on."""

    continue_unfinished: bool = Field(
        default=True,
        description="Keep the training set of an interrupted training, so that it can go on, if there are no newer or"
        " older bars by now.",
    )
    intervals: list[str] = Field(
        default=[],
        description="Intervals whose features are read, the forecaster's own first, then longer ones that are joined"
        " to it. Empty: those of the settings (KLINECAST_MODEL_INTERVAL, KLINECAST_JOINED_INTERVALS).",
    )
    left_out_groups: list[str] = Field(
        default=[],
        description="Groups of features (docs/features.md) that the forecaster does not see, such as clock; the feature"
        " that scales the targets stays.",
    )

    def check(self) -> None:
        """Refuse values that contradict each other, and intervals that there are not."""
        super().check()
        require_intervals(self.intervals, "ops.training_set.config.intervals in the run config")


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
    intervals = tuple(config.intervals) or platform.settings.forecast_intervals
    with StepProgress(context, "training set", "splits") as progress:
        progress.say(f"windows and targets of {' + '.join(intervals)} bars")
        block = published_features(platform.home, intervals, tuple(config.left_out_groups))
        found = (
            _unfinished(platform.home, settings, intervals[0], block) if config.continue_unfinished else None
        )
        if found is not None:
            context.log.info("the last training was interrupted; its training set is kept, and it goes on")
        made = found or _build(platform, settings, intervals[0], block)
    return dg.MaterializeResult(metadata=_metadata(made.manifest, made.path))


def _build(
    platform: Platform, settings: ForecasterConfig, interval: str, block: JoinedFeatures
) -> TrainingSet:
    with platform.store() as store:
        first, last = int(block.open_time[0]), int(block.open_time[-1])
        panel = store.panel(interval, block.symbols, start=first, end=last + 1, columns=("close",))
    return build_training_set(
        block, panel.columns["close"], interval, settings, training_set_folder(platform.home)
    )


def published_features(
    home: Path, intervals: tuple[str, ...], left_out: tuple[str, ...] = ()
) -> JoinedFeatures:
    """Join the published features that the forecaster is fed with, as far as the bars allow them.

    Parameters
    ----------
    intervals
        The forecaster's own one, then longer ones.
    left_out
        Groups of features that it is not fed with.

    Raises
    ------
    GivenValueError
        There is no such group among the features.
    KernelError
        Of an interval nothing is published, or it cannot be joined.
    """
    times = open_latest(home, intervals[0]).open_time
    every = (model_features(times), *[joined_features()] * (len(intervals) - 1))
    _require_groups(left_out, feature_groups([name for names in every for name in names]))
    wanted = [without_groups(names, left_out, keep=scales(names)) for names in every]
    own, *longer = [
        _published(home, interval, names) for interval, names in zip(intervals, wanted, strict=True)
    ]
    return JoinedFeatures(own, longer)


def _require_groups(left_out: tuple[str, ...], known: tuple[str, ...]) -> None:
    for group in left_out:
        if group not in known:
            raise GivenValueError(
                f"there is no group {group!r} among the features of the forecaster",
                where="ops.training_set.config.left_out_groups in the run config",
                remedy=f"leave out some of: {', '.join(known)}",
            )


def _published(home: Path, interval: str, wanted: tuple[str, ...]) -> IntervalFeatures:
    step, block = interval_ms(interval), open_latest(home, interval)
    return IntervalFeatures(interval, step, block, tuple(name for name in wanted if name in block.names))


def _unfinished(
    home: Path, settings: ForecasterConfig, interval: str, block: JoinedFeatures
) -> TrainingSet | None:
    """Return the training set of these bars and features whose training was begun with these settings and not ended.

    A set of other bars is not kept: a new one has them all.
    """
    folder = training_set_folder(home)
    if not folder.is_dir():
        return None
    try:
        found = TrainingSet.load(folder)
    except TrainingSetError:  # of an older format, or damaged: it is built anew
        return None
    manifest, times = found.manifest, found.open_time
    made_of = (
        manifest.config,
        manifest.interval,
        manifest.feature_names,
        manifest.symbols,
        times[0],
        times[-1],
    )
    now = (settings, interval, block.names, tuple(block.symbols), block.open_time[0], block.open_time[-1])
    return found if made_of == now and begun_not_ended(home, found) else None


def _metadata(manifest: TrainingSetManifest, folder: Path) -> dict[str, Any]:
    rows = {name: span.rows for name, span in manifest.spans.items()}
    spans = [
        {
            "split": name,
            "windows": span.rows,
            "features from": utc(span.first_feature_time),
            "first": utc(span.first_open_time),
            "last": utc(span.last_open_time),
            "labels until": utc(span.last_label_time),
            **dict(zip(CLASSES, manifest.class_share[name], strict=True)),
        }
        for name, span in manifest.spans.items()
    ]
    return {
        "summary": f"{sum(rows.values()):,} windows of {manifest.config.window} {' + '.join(manifest.intervals)} bars x"
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
