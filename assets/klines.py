"""Asset `klines`: the closed bars of every followed symbol and interval, as the exchange gave them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets.archives import archive_host, archive_metadata, archive_summary
from assets.choices import future_start, require_intervals
from assets.clock import record_clock
from assets.completeness import SPEC, completeness
from assets.errors import GivenValueError
from assets.failures import explained
from assets.metadata import column_schema, table, utc
from assets.platform import Platform
from assets.progress import StepProgress
from assets.request_priority import request_priority
from assets.source import builtin_info, claim_source
from market.errors import MarketError
from market.intervals import floor_time, interval_ms
from market.klines import MEANINGS, STORED_SCHEMA
from market.wording import count

if TYPE_CHECKING:
    from market.backfill import BackfillReport
    from market.ingest_report import IngestReport
    from market.progress import Progress
    from market.store import KlineStore


HOT_MS = 3 * interval_ms("1d")
"""Bars older than this are rolled into immutable Parquet files, one a day and interval."""

COMPACTED_FILES = 24
"""So many small Parquet files of past months and an interval are merged: those of a month, once it is over."""

PUBLISHED_BARS = 1_500
"""Bars of the published panel: what a sweep with the default features and window reads, and some more."""


class KlinesConfig(dg.Config):
    """What to fetch; by default all that the settings name."""

    symbols: list[str] = Field(default=[], description="Only these symbols; empty: the universe.")
    intervals: list[str] = Field(default=[], description="Only these intervals; empty: KLINECAST_INTERVALS.")
    start_time: int | None = Field(
        default=None, description="First open time, ms UTC; unset: KLINECAST_HISTORY_BARS before now."
    )
    end_time: int | None = Field(default=None, description="Open times before this, ms UTC; unset: now.")

    def check(self) -> None:
        """Refuse intervals that there are not."""
        require_intervals(self.intervals, "ops.klines.config.intervals in the run config")


@dg.asset(
    deps=["universe"],
    group_name="ingestion",
    kinds={"python", "parquet"},
    code_version="1",
    pool="exchange_api",
    owners=["team:market-data"],
    check_specs=[SPEC],
)
@explained
def klines(
    context: dg.AssetExecutionContext, config: KlinesConfig, platform: Platform
) -> dg.MaterializeResult:
    """The closed bars of every followed symbol and interval; only what is missing is asked for."""
    from assets.exchange_questions import exchange_time  # a sweep talks to no exchange ...
    from market.backfill import backfill_sync  # ... and should not load its client

    settings = platform.settings
    symbols, intervals = config.symbols, config.intervals or settings.intervals
    with (
        platform.exchange() as url,
        platform.store() as store,
        StepProgress(context, "klines", "bars") as progress,
    ):
        now = exchange_time(url, settings.market, progress.say)
        if config.start_time is not None and config.start_time >= now:
            raise future_start(config.start_time, now, "start_time of klines (--start)")
        # A host that has answered; a mistyped URL claims nothing.
        claim_source(platform.home, url, settings.market)
        followed = symbols or platform.tracked_symbols(store)
        with _naming_unknown(symbols, store):
            filled = backfill_sync(
                url,
                archive_host(settings, url),
                store,
                followed,
                intervals,
                start=_starts(config, intervals, settings.history_bars, now),
                end=config.end_time,
                progress=lambda told: _show(told, progress),
                derive=settings.derive,
                now=now,
                market=settings.market,
                priority=request_priority(store.spans(), followed, intervals, now),
            )
        report, files = filled.ingest, filled.archives
        rolled = store.roll(floor_time(now - HOT_MS, "1d"))
        compacted = store.compact(now - HOT_MS, least_files=COMPACTED_FILES)
        record_clock(platform.home, report.now, (builtin_info(url) or {}).get("speed", 1.0))
        spans = store.spans()
        for interval in settings.forecast_intervals:
            _publish(context, store, interval)
    for failure in report.failures:
        context.log.warning(f"{failure.symbol} {failure.interval}: {failure.error}")
    for missed in files.failures:
        context.log.warning(f"{missed.path}: {missed.error}")
    context.log.info(f"{filled}; {rolled}; {compacted}")
    return dg.MaterializeResult(metadata=_metadata(filled, spans), check_results=[completeness(report)])


@contextmanager
def _naming_unknown(given: Sequence[str], store: "KlineStore") -> Iterator[None]:
    """Say of symbols that the exchange does not have, and nothing is stored of, that they were given for this run.

    The exchange alone knows its symbols; archives may have those that it has no more.
    """
    from market.client_errors import UnknownSymbolError

    try:
        yield
    except UnknownSymbolError as error:
        if not given or set(given) & set(store.spans()["symbol"]):
            raise
        raise GivenValueError(
            error.what, where="symbols of klines (--symbols)", remedy=error.remedy
        ) from None


def _show(told: "Progress", progress: StepProgress) -> None:
    """Show how far an ingest is, or what is wrong while something is tried again."""
    if told.trouble:
        progress.say(told.trouble)
    else:
        progress.update(told.done, told.expected, told.detail)


def _publish(context: dg.AssetExecutionContext, store: "KlineStore", interval: str) -> None:
    """Publish the bars of the universe that sweeps read; without the file they read the store."""
    try:
        store.publish_panel(interval, store.universe()["symbol"].to_list(), PUBLISHED_BARS)
    except MarketError as error:
        context.log.warning(f"{error}")


def _starts(config: KlinesConfig, intervals: Sequence[str], bars: int, now: int) -> dict[str, int]:
    """Return the first open time to hold, by interval."""
    if config.start_time is not None:
        return dict.fromkeys(intervals, config.start_time)
    return {name: floor_time(now, name) - bars * interval_ms(name) for name in intervals}


def _failed(report: "IngestReport") -> str:
    """Say how many series could not be completed, if any."""
    failed, of = len(report.failures), len(report.series)
    return f" {failed:,} of {of:,} series FAILED;" if failed else ""


def _looked_again(report: "IngestReport") -> str:
    """Say how many bars that were known to be absent are still not there, if any were looked for."""
    again = report.total("still_absent")
    return f" {again:,} looked for again and still absent," if again else ""


_FIRST_COLUMNS = (
    "symbol",
    "kline_interval",
    "inserted",
    "derived",
    "gaps",
    "still_absent",
    "refused",
    "failed",
    "pending",
    "failure",
)
"""What a person needs to know of a series; the other counts follow as far as any series has one."""


def _readable(series: pl.DataFrame) -> pl.DataFrame:
    """Order series and columns by what a person looks for: what failed, then what is new; empty columns go."""
    ordered = series.sort(pl.col("failure").is_null(), -pl.col("inserted"), maintain_order=True)
    counts = [name for name, dtype in ordered.schema.items() if dtype == pl.Int64]
    told = {"symbol", "kline_interval", "inserted", "gaps"}
    told |= {name for name in counts if ordered[name].sum()} | (
        {"failure"} if ordered["failure"].count() else set()
    )
    first = [name for name in _FIRST_COLUMNS if name in told]
    return ordered.select(*first, *(name for name in counts if name in told and name not in first))


def _metadata(filled: "BackfillReport", spans: pl.DataFrame) -> dict[str, Any]:
    report, files = filled.ingest, filled.archives
    series = report.to_frame()
    held = (
        spans.group_by("kline_interval", maintain_order=True)
        .agg(
            pl.col("symbol").n_unique().alias("symbols"),
            pl.col("rows").sum(),
            pl.col("first_open_time").min(),
            pl.col("last_open_time").max(),
        )
        .sort("kline_interval")
    )
    failed = series.filter(pl.col("failure").is_not_null())
    return {
        "summary": f"{count(filled.inserted + report.total('derived'), 'bar')} new{archive_summary(files)},"
        f" {int(spans['rows'].sum()):,} held;"
        f" {report.total('gaps'):,} newly ledgered as absent,{_looked_again(report)}"
        f" {report.total('refused'):,} refused;{_failed(report)}"
        f" {count(report.requests, 'request')}",
        "dagster/row_count": int(spans["rows"].sum()),
        "dagster/column_schema": column_schema(STORED_SCHEMA, MEANINGS),
        "exchange_time": utc(report.now),
        "inserted": filled.inserted,
        "derived": report.total("derived"),
        "confirmed": report.total("confirmed"),
        "revised": report.total("updated") + files.total("updated"),
        "refused": report.total("refused") + files.total("refused"),
        "gaps": report.total("gaps"),
        "still_absent": report.total("still_absent"),
        "requests": report.requests,
        "weight": report.weight,
        "bars_per_second": filled.inserted / max(filled.seconds, 1e-9),
        "waiting_share": report.waiting_s / max(report.seconds, 1e-9),
        "held": table(held),
        "series": table(_readable(series)),
        "failures": table(failed.select("symbol", "kline_interval", "failure")),
        **archive_metadata(files),
    }
