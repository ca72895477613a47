"""`klinecast predictions`: the newest forecasts."""

from __future__ import annotations

from rich.table import Table

from assets.choices import read_symbols
from assets.home import Home
from assets.wording import count, utc
from orchestration.cli.output import console


def show_predictions(symbols: str | None, limit: int) -> int:
    """Show the newest predictions."""
    names = read_symbols(symbols)
    with Home().existing_store() as store:
        newest = store.predictions(symbols=names)
    newest = newest.sort("open_time", "symbol", descending=[True, False]).head(limit)
    if newest.is_empty():
        whose = f" of {', '.join(names)}" if names else ""
        print(
            f"no predictions{whose} yet: klinecast run prediction_sweep makes those of the followed symbols"
        )
        return 0
    columns = ("p_down", "p_flat", "p_up", "q10", "q50", "q90", "volatility")
    shown = Table("symbol", "bar opened (UTC)", *columns, box=None)
    for row in newest.iter_rows(named=True):
        bar = f"{utc(row['open_time'])[:16]} {row['kline_interval']}"
        probabilities = [f"{row[name]:.3f}" for name in ("p_down", "p_flat", "p_up")]
        quantiles = [f"{100 * row[name]:+.2f}%" for name in ("q10", "q50", "q90")]
        volatility = "" if row["volatility"] is None else f"{100 * row['volatility']:.2f}%"
        shown.add_row(row["symbol"], bar, *probabilities, *quantiles, volatility)
    out = console()
    out.print(shown)
    out.print(
        f"horizon {count(newest['horizon'][0], 'bar')}; q10, q50, q90: quantiles of the log return until then;"
        " volatility: root of the summed squared 1-bar log returns until then;"
        f" model {newest['model_version'][0]}",
        highlight=False,
        soft_wrap=True,
    )
    return 0
