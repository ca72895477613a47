"""Check `intact` of klines: does the store still hold what was written? It reads all of it, so it has its own job."""

import dagster as dg

from assets.failures import explained
from assets.platform import Platform
from market.wording import count

INTACT = dg.AssetCheckKey(dg.AssetKey("klines"), "intact")
_SHOWN = 20


@dg.asset_check(
    asset=INTACT.asset_key,
    name=INTACT.name,
    blocking=True,
    description="Every Parquet file has the SHA-256 that it was written with and holds the bars that it should.",
)
@explained
def intact(platform: Platform) -> dg.AssetCheckResult:
    """Read every file and every bar of the store."""
    with platform.store() as store:
        bars = int(store.spans()["rows"].sum())
        faults = store.verify()
    what = f"all {bars:,} bars are as they were written"
    if faults:
        what = f"{count(len(faults), 'fault')}, the first: {faults[0]}; docs/store.md says what to do"
    return dg.AssetCheckResult(
        passed=not faults,
        metadata={
            "summary": what,
            "bars": bars,
            "faults": len(faults),
            "first_faults": dg.MetadataValue.json(faults[:_SHOWN]),
        },
    )
