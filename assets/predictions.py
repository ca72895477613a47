"""Asset `predictions`: one row a symbol, at the newest closed bar of the model's interval."""

from collections import Counter

import dagster as dg
import polars as pl

from assets.failures import explained
from assets.metadata import column_schema, table, utc
from assets.platform import Platform
from market.store.tables import PREDICTION_MEANINGS
from market.wording import count
from serving.cache import open_cache
from serving.sweep import SweepReport, sweep


@dg.asset(
    deps=["klines", "champion"],
    group_name="serving",
    kinds={"python", "onnx"},
    code_version="1",
    owners=["team:serving"],
)
@explained
def predictions(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """Direction probabilities and return quantiles of every symbol, from the current model."""
    with platform.store() as store, open_cache(platform.settings.redis) as cache:
        report = sweep(
            store,
            platform.home,
            symbols=platform.tracked_symbols(store),
            now_ms=platform.now_ms(),
            cache=cache,
        )
    for symbol, reason in report.skipped.items():
        context.log.warning(f"{symbol} not predicted: {reason}")
    return dg.MaterializeResult(
        metadata={
            "summary": _in_words(report),
            "dagster/row_count": report.frame.height,
            "dagster/column_schema": column_schema(report.frame.schema, PREDICTION_MEANINGS),
            "open_time": utc(report.open_time),
            "bars_behind_the_exchange": report.staleness_bars,
            "new_rows": report.rows_inserted,
            "cache": report.cache,
            "model_version": report.model_version,
            "seconds": table(
                pl.DataFrame({"stage": list(report.timings), "seconds": list(report.timings.values())})
            ),
            "not_predicted": dg.MetadataValue.json(report.skipped),
            "not_ready": dg.MetadataValue.json(report.not_ready),
            "predictions": table(report.frame),
        }
    )


def _in_words(report: SweepReport) -> str:
    """Say what was predicted, what an earlier sweep had predicted already, and who was left out and why."""
    made, new = report.frame.height, report.rows_inserted
    if made and not new:
        already = "already there, from an earlier sweep: "
    else:
        already = f"{new:,} new and {made - new:,} already there: " if new < made else ""
    why = Counter(reason.partition(":")[0] for reason in report.skipped.values())
    left_out = ", ".join(f"{number:,} {reason}" for reason, number in why.most_common())
    return (
        f"{already}{count(made, 'symbol')} at {utc(report.open_time)} by model {report.model_version}"
        + (f"; {len(report.skipped):,} not predicted ({left_out})" if report.skipped else "")
        + "".join(f"; {len(late):,} wait for their {name} bar" for name, late in report.not_ready.items())
    )
