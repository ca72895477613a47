"""Commands that look: status, predictions, sql, settings."""

from __future__ import annotations

import duckdb
import polars as pl
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from assets.errors import AssetError
from assets.metadata import utc
from assets.platform import Platform
from assets.readiness import assess_home
from assets.settings import PREFIX, Settings, load_settings
from assets.source import claimed_source

_VERDICT_COLOURS = {"ready": "green", "degraded": "yellow", "not_ready": "red"}


class QueryError(AssetError):
    """DuckDB refuses a query."""


def show_status() -> int:
    """Say what this home holds and whether it is ready to predict; exit code 0 only if it is ready."""
    console, platform = Console(), Platform()
    readiness = assess_home(platform)
    colour = _VERDICT_COLOURS[readiness.verdict]
    console.print(f"home      {platform.settings.home}", highlight=False)
    console.print(
        f"source    {claimed_source(platform.settings.home) or 'nothing ingested yet'}", highlight=False
    )
    console.print(f"verdict   [{colour}]{readiness.verdict}[/{colour}]")
    for reason in readiness.reasons:
        console.print(Padding(Text(reason), (0, 0, 0, 10)))
    if not platform.holds_store():
        return 1
    with platform.existing_store() as store:
        spans = store.spans()
    rows = spans.group_by("kline_interval", maintain_order=True).agg(
        symbols=pl.col("symbol").n_unique(),
        bars=pl.col("rows").sum(),
        first=pl.col("first_open_time").min(),
        last=pl.col("last_open_time").max(),
    )
    shown = Table("interval", "symbols", "bars", "first open time", "last open time", box=None)
    for name, symbols, bars, first, last in rows.iter_rows():
        shown.add_row(name, f"{symbols:,}", f"{bars:,}", utc(first), utc(last))
    console.print(shown)
    return 0 if readiness.verdict == "ready" else 1


def show_predictions(symbol: str | None, limit: int) -> int:
    """Show the newest predictions."""
    platform = Platform()
    with platform.existing_store() as store:
        newest = store.predictions(symbols=None if symbol is None else [symbol])
    newest = newest.sort("open_time", "symbol", descending=[True, False]).head(limit)
    if newest.is_empty():
        whose = f" of {symbol}" if symbol else ""
        print(
            f"no predictions{whose} yet: klinecast run prediction_sweep makes those of the followed symbols"
        )
        return 0
    shown = Table("symbol", "bar opened (UTC)", "p_down", "p_flat", "p_up", "q10", "q50", "q90", box=None)
    for row in newest.iter_rows(named=True):
        bar = f"{utc(row['open_time'])[:16]} {row['kline_interval']}"
        probabilities = [f"{row[name]:.3f}" for name in ("p_down", "p_flat", "p_up")]
        quantiles = [f"{100 * row[name]:+.2f}%" for name in ("q10", "q50", "q90")]
        shown.add_row(row["symbol"], bar, *probabilities, *quantiles)
    console = Console()
    console.print(shown)
    console.print(
        f"horizon {newest['horizon'][0]} bars; q10, q50, q90: quantiles of the log return until then;"
        f" model {newest['model_version'][0]}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def show_query(query: str) -> int:
    """Show the answer to a DuckDB query."""
    platform = Platform()
    with platform.existing_store() as store, store.connect_duckdb() as connection:
        try:
            for statement in _only_questions(connection, query):
                connection.sql(statement).show(max_rows=200)
        except duckdb.Error as error:
            raise QueryError(
                str(error).strip(),
                where="the query",
                remedy="mend it; the tables are klines, predictions, flags, gaps, quarantine and universe",
            ) from None
    return 0


def _only_questions(connection: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    """Split a query into its statements, and refuse what is no question to the store."""
    statements = connection.extract_statements(query)
    asking = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if not statements or any(statement.type not in asking for statement in statements):
        raise QueryError(
            "this is no question: the store is read here, never written",
            where="the query",
            remedy="ask with SELECT; the tables are klines, predictions, flags, gaps, quarantine and universe",
        )
    return [statement.query for statement in statements]


def show_settings() -> int:
    """Show every setting, its value here and what it means; secrets are not shown."""
    settings = load_settings()
    shown = Table("setting", "value here", "meaning", box=None)
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        text = ",".join(value) if isinstance(value, tuple) else "unset" if value is None else str(value)
        shown.add_row(PREFIX + name.upper(), text, field.description)
    Console().print(shown)
    return 0
