"""What a person sees beside a materialisation: tables, spans and small plots."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import polars as pl

from market.wording import utc

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bar_plot", "column_schema", "line_plot", "table", "utc"]

_PLOT_INCHES = (7.0, 2.2)
_FEW_POINTS = 50
"""So many are marked each: of a single one no line would be seen."""


def table(frame: pl.DataFrame, rows: int = 50) -> dg.MarkdownMetadataValue:
    """Show the first rows of a frame as a table."""
    shown = frame.head(rows)
    head = "| " + " | ".join(shown.columns) + " |"
    rule = "|" + "---|" * shown.width
    body = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in shown.iter_rows()]
    more = [] if frame.height <= rows else [f"\n… and {frame.height - rows:,} rows more"]
    return dg.MetadataValue.md("\n".join([head, rule, *body, *more]))


def column_schema(schema: Mapping[str, pl.DataType], meanings: Mapping[str, str]) -> dg.TableSchema:
    """Describe the columns of a table: name, type, and what each holds."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=name, type=str(dtype), description=meanings[name])
            for name, dtype in schema.items()
        ]
    )


def line_plot(
    lines: Mapping[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]],
    *,
    x_label: str,
    y_label: str,
) -> dg.MarkdownMetadataValue:
    """Plot named lines, each an (x, y) pair of equal length."""
    figure = _figure()
    axes = figure.subplots()
    for name, (x, y) in lines.items():
        axes.plot(x, y, label=name, linewidth=1, marker="." if len(x) <= _FEW_POINTS else "")
    if all(float(value).is_integer() for x, _ in lines.values() for value in x):
        axes.locator_params(axis="x", integer=True)  # there is no epoch 1.25
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(lines) > 1:
        axes.legend(fontsize=7, frameon=False)
    return _picture(figure, " and ".join(lines))


def bar_plot(heights: Mapping[str, float], *, y_label: str) -> dg.MarkdownMetadataValue:
    """Plot one bar a name."""
    figure = _figure()
    axes = figure.subplots()
    axes.bar(list(heights), list(heights.values()))
    axes.set_ylabel(y_label)
    axes.tick_params(axis="x", labelrotation=90 if len(heights) > 8 else 0, labelsize=7)
    return _picture(figure, y_label)


def _figure() -> Figure:
    from matplotlib.figure import Figure  # a sweep draws nothing, and should not load it

    return Figure(figsize=_PLOT_INCHES, layout="constrained")


def _picture(figure: Figure, alternative: str) -> dg.MarkdownMetadataValue:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return dg.MetadataValue.md(f"![{alternative}](data:image/png;base64,{encoded})")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool) and value > 1_000_000_000_000:
        return utc(value)
    return str(value).replace("|", "/")
