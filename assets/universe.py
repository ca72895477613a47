"""Asset `universe`: which symbols the platform follows."""

import dagster as dg

from assets.failures import explained
from assets.metadata import column_schema, table
from assets.platform import Platform
from assets.progress import StepProgress
from assets.source import claim_source
from market.wording import count


@dg.asset(
    group_name="ingestion",
    kinds={"python", "polars"},
    code_version="1",
    pool="exchange_api",
    owners=["team:market-data"],
)
@explained
def universe(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """The symbols that `KLINECAST_SYMBOLS` selects at the exchange, by 24h quote volume."""
    from assets.exchange_questions import (
        chosen_symbols,
    )  # a sweep talks to no exchange, and should not load its client

    market = platform.settings.market
    with (
        StepProgress(context, "universe", "symbols") as progress,
        platform.exchange() as url,
        platform.store() as store,
    ):
        progress.say(f"asking {url} for its symbols")
        frame = chosen_symbols(url, platform.settings.symbols, market, progress.say)
        # A host that has answered; a mistyped URL claims nothing.
        source = claim_source(platform.home, url, market)
        store.write_universe(frame)
    return dg.MaterializeResult(
        metadata={
            "summary": f"{count(frame.height, 'symbol')} of {source} ({platform.settings.symbols})",
            "dagster/row_count": frame.height,
            "dagster/column_schema": column_schema(frame),
            "source": source,
            "selection": platform.settings.symbols,
            "symbols": table(frame),
        }
    )
