"""Asset `universe`: which symbols the platform follows."""

import dagster as dg
import polars as pl

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
    from assets.exchange_questions import chosen_symbols  # a sweep talks to no exchange ...
    from market.universe import MEANINGS  # ... and should not load its client

    market = platform.settings.market
    with (
        StepProgress(context, "universe", "symbols") as progress,
        platform.exchange() as url,
        platform.store() as store,
    ):
        progress.say(f"asking {url} for its symbols")
        once_known = {*store.universe()["symbol"], *store.spans()["symbol"]}
        frame = chosen_symbols(url, platform.settings.symbols, market, progress.say, once_known=once_known)
        # A host that has answered; a mistyped URL claims nothing.
        source = claim_source(platform.home, url, market)
        store.write_universe(frame)
    gone = _gone(platform.settings.symbols, frame)
    if gone:
        context.log.warning(f"not listed any more, and left out: {', '.join(gone)}")
    return dg.MaterializeResult(
        metadata={
            "summary": f"{count(frame.height, 'symbol')} of {source} ({platform.settings.symbols})"
            + (f"; not listed any more, and left out: {', '.join(gone)}" if gone else ""),
            "dagster/row_count": frame.height,
            "dagster/column_schema": column_schema(frame.schema, MEANINGS),
            "source": source,
            "selection": platform.settings.symbols,
            "symbols": table(frame),
        }
    )


def _gone(selection: str, chosen: pl.DataFrame) -> list[str]:
    """Return the names of a selection that the exchange does not have any more; their bars stay."""
    names = [name.strip() for name in selection.split(",")] if "," in selection else []
    return [name for name in dict.fromkeys(names) if name and name not in set(chosen["symbol"])]
