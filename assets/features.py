"""Asset `features`: the catalogue's default features of every followed symbol, one block an interval."""

from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets.failures import explained
from assets.metadata import table, utc
from assets.platform import Platform
from assets.progress import StepProgress
from kernels.catalogue import available, default_features
from kernels.compute import compute
from kernels.feature_store import publish
from market.store import Panel


@dg.asset(
    deps=["klines"],
    group_name="features",
    kinds={"python", "numba"},
    code_version="1",
    owners=["team:features"],
)
@explained
def features(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """Indicator features as memory-mapped (features, bars, symbols) blocks, computed from closed bars alone."""
    settings = platform.settings
    made: list[dict[str, Any]] = []
    with platform.store() as store, StepProgress(context, "features", "intervals") as progress:
        symbols, now = platform.tracked_symbols(store), platform.now_ms()
        for done, interval in enumerate(settings.intervals):
            progress.update(done, len(settings.intervals), f"at {interval}")
            panel = store.panel(interval, symbols, bars=settings.history_bars, end=now)
            block = compute(panel, available(default_features(), known_columns(panel)))
            folder = publish(block, interval, platform.home, extra={"history_bars": settings.history_bars})
            made.append(
                {
                    "interval": interval,
                    "features": len(block.names),
                    "bars": len(block.open_time),
                    "symbols": len(block.symbols),
                    "first": utc(int(block.open_time[0])),
                    "last": utc(int(block.open_time[-1])),
                    "missing": float(np.isnan(block.values).mean()),
                    "folder": folder.name,
                }
            )
        progress.update(len(made), len(made))
    values = sum(row["features"] * row["bars"] * row["symbols"] for row in made)
    return dg.MaterializeResult(
        metadata={
            "summary": f"{values:,} values of {len(block.names)} features on {' '.join(settings.intervals)}",
            "dagster/row_count": values,
            "blocks": table(pl.DataFrame(made)),
            "names": dg.MetadataValue.json(list(block.names)),
            "not_computable": dg.MetadataValue.json(sorted(set(default_features()) - set(block.names))),
            "folder": dg.MetadataValue.path(platform.home / "features"),
        }
    )


def known_columns(panel: Panel) -> tuple[str, ...]:
    """Name the columns that the source tells at all: plain OHLCV bars know neither trades nor takers."""
    return tuple(name for name, values in panel.columns.items() if np.isfinite(values).any())
