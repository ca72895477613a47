"""`klinecast predictions`: the newest forecasts."""

from __future__ import annotations

import polars as pl
from rich.table import Table

from assets.choices import known_symbols, read_symbols, unknown_names
from assets.home import Home
from assets.model_state import current_model_version
from assets.wording import count, utc
from orchestration.cli.output import console, print_table, told_missing


def show_predictions(symbols: str | None, limit: int) -> int:
    """Show the newest predictions; returns the exit code."""
    names = read_symbols(symbols)
    home = Home()
    with home.existing_store() as store:
        made, here = store.predictions(symbols=names), known_symbols(store)
    predicted = set(made["symbol"])
    missing = unknown_names(names, here | predicted, "--symbols")
    if made.height:
        _print_predictions(
            made.sort("open_time", "symbol", descending=[True, False]).head(limit), made.height
        )
    whose = [name for name in names or () if name in here - predicted]
    if whose or not made.height:
        of = f" of {', '.join(whose)}" if whose else ""
        print(f"no predictions{of} yet{_next_step(current_model_version(home.settings.home))}")
    return told_missing(missing)


def _next_step(model: str | None) -> str:
    """Say what makes predictions: a model has to be there first."""
    if model is None:
        return (
            ", and no model to make them with: klinecast run make_features, then klinecast run train_and_export, then"
            " klinecast run prediction_sweep"
        )
    return ": klinecast run prediction_sweep makes those of the followed symbols"


def _print_predictions(newest: pl.DataFrame, of: int) -> None:
    columns = ("p_down", "p_flat", "p_up", "q10", "q50", "q90", "volatility")
    shown = Table("symbol", "bar opened (UTC)", *columns, box=None)
    for row in newest.iter_rows(named=True):
        bar = f"{utc(row['open_time'])[:16]} {row['kline_interval']}"
        probabilities = [f"{row[name]:.3f}" for name in ("p_down", "p_flat", "p_up")]
        quantiles = [f"{100 * row[name]:+.2f}%" for name in ("q10", "q50", "q90")]
        volatility = "" if row["volatility"] is None else f"{100 * row['volatility']:.2f}%"
        shown.add_row(row["symbol"], bar, *probabilities, *quantiles, volatility)
    print_table(shown)
    out = console()
    out.print(
        f"horizon {count(newest['horizon'][0], 'bar')}; q10, q50, q90: quantiles of the log return until then;"
        " volatility: root of the summed squared 1-bar log returns until then;"
        f" model {newest['model_version'][0]}",
        highlight=False,
        soft_wrap=True,
    )
    if newest.height < of:
        out.print(
            f"the {newest.height:,} newest of {of:,} predictions; see more with --limit", highlight=False
        )
