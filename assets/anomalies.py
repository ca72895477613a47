"""Asset `anomalies`: bars that stand out from their past, flagged by statistics and two kinds of forest."""

from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field

from assets.failures import explained
from assets.metadata import bar_plot, table, utc
from assets.platform import Platform
from assets.progress import StepProgress
from kernels.feature_store import open_latest


class AnomaliesConfig(dg.Config):
    """Which bars are the past that detectors are fitted on, and the seed of the forests."""

    past_share: float = Field(
        default=0.7,
        gt=0.1,
        lt=1.0,
        description="Share of the bars, the oldest, that detectors are fitted on.",
    )
    seed: int = Field(
        default=0, description="Of the forests and of the planted anomalies that they learn from."
    )


@dg.asset(
    deps=["klines", "features"],
    group_name="features",
    kinds={"python", "scikitlearn"},
    code_version="1",
    owners=["team:features"],
)
@explained
def anomalies(
    context: dg.AssetExecutionContext, config: AnomaliesConfig, platform: Platform
) -> dg.MaterializeResult:
    """Flags of unusual bars, over the bars that the features cover; a flag at a bar needs no later bar."""
    from training.anomalies.detect import (
        detect_anomalies,
    )  # a sweep flags nothing, and should not load scikit-learn

    intervals, made = platform.settings.intervals, []
    with platform.store() as store, StepProgress(context, "anomalies", "intervals") as progress:
        now = platform.now_ms()
        for done, interval in enumerate(intervals):
            progress.update(done, len(intervals), f"at {interval}")
            block = open_latest(platform.home, interval)
            first, last = int(block.open_time[0]), int(block.open_time[-1])
            panel = store.panel(interval, block.symbols, start=first, end=last + 1)
            fit_until = first + int((last - first) * config.past_share)
            found = detect_anomalies(panel, fit_until=fit_until, created_at=now, seed=config.seed)
            store.write_flags(found.frame)
            judged = int(np.isfinite(panel.columns["close"][panel.open_time >= fit_until]).sum())
            made.append(_told(interval, found.frame, judged, fit_until))
        progress.update(len(made), len(made))
    flags = pl.concat([row.pop("frame") for row in made])
    return dg.MaterializeResult(metadata=_metadata(flags, pl.DataFrame(made)))


def _told(interval: str, frame: pl.DataFrame, judged: int, fit_until: int) -> dict[str, Any]:
    return {
        "frame": frame,
        "interval": interval,
        "bars_judged": judged,
        "flags": frame.height,
        "bars_flagged": frame.select("symbol", "open_time").n_unique(),
        "fitted_until": utc(fit_until),
    }


def _metadata(flags: pl.DataFrame, by_interval: pl.DataFrame) -> dict[str, Any]:
    by_detector = flags.group_by("detector").len().sort("detector")
    heights = {name: float(count) for name, count in by_detector.iter_rows()}
    strongest = flags.sort("score", descending=True).group_by("detector", maintain_order=True).head(5)
    return {
        "summary": f"{int(by_interval['bars_flagged'].sum()):,} of {int(by_interval['bars_judged'].sum()):,} bars"
        f" flagged by {len(heights)} detectors",
        "dagster/row_count": flags.height,
        "by_interval": table(by_interval),
        "by_detector": table(by_detector),
        "flags_per_detector": bar_plot(heights, y_label="flags"),
        "strongest": table(strongest),
    }
