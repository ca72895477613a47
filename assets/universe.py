"""Asset `universe`: which symbols the platform follows."""

import dagster as dg

from assets.failures import explained
from assets.metadata import bar_plot, column_schema, table
from assets.platform import Platform
from assets.source import claim_source


@dg.asset(
    group_name="ingestion",
    kinds={"python", "polars"},
    code_version="1",
    pool="exchange_api",
    owners=["team:market-data"],
)
@explained
def universe(platform: Platform) -> dg.MaterializeResult:
    """The symbols that `KLINECAST_SYMBOLS` selects at the exchange, by 24h quote volume."""
    from assets.exchange_questions import (
        chosen_symbols,
    )  # a sweep talks to no exchange, and should not load its client

    market = platform.settings.market
    with platform.exchange() as url, platform.store() as store:
        frame = chosen_symbols(url, platform.settings.symbols, market)
        # A host that has answered; a mistyped URL claims nothing.
        source = claim_source(platform.home, url, market)
        store.write_universe(frame)
    volumes = dict(zip(frame["symbol"], frame["quote_volume_24h"], strict=True))
    return dg.MaterializeResult(
        metadata={
            "summary": f"{frame.height} symbols of {source} ({platform.settings.symbols})",
            "dagster/row_count": frame.height,
            "dagster/column_schema": column_schema(frame),
            "source": source,
            "selection": platform.settings.symbols,
            "symbols": table(frame),
            "volume": bar_plot(volumes, y_label="24h quote volume"),
        }
    )
