"""The figures beside what they should be: a table for people, a page for the documentation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from benchmarks.ingestion.measure import Figures

TARGETS: Final[Mapping[str, tuple[str, float]]] = {
    "rest_ratio_ccxt": (">=", 10),
    "rest_ratio_freqtrade_way": (">=", 10),
    "rest_ratio_best_rival": (">=", 10),
    "archive_rows_per_s": (">=", 1_000_000),
    "upsert_sqlite_ms_p50": ("<=", 6),
    "upsert_postgres_ms_p50": ("<=", 15),
    "bytes_per_row": ("<=", 40),
    "bars_saved_share": (">=", 0.9),
    "weight_saved_share": (">=", 0.6),
    "panel_500x500_ms": ("<=", 250),
    "panel_500x500_postgres_ms": ("<=", 250),
    "published_panel_ms": ("<=", 5),
    "published_panel_postgres_ms": ("<=", 5),
}


def judged(figures: Figures) -> dict[str, dict[str, Any]]:
    """Return target and whether it is met, for the figures that have one."""
    found = {}
    for name, (sign, target) in TARGETS.items():
        if name in figures:
            met = figures[name] >= target if sign == ">=" else figures[name] <= target
            found[name] = {"target": f"{sign} {target:g}", "met": bool(met)}
    return found


def lines(results: Mapping[str, Figures]) -> Iterator[str]:
    """Yield a line per figure, with its target where it has one."""
    for part, figures in results.items():
        yield f"\n{part}"
        targets = judged(figures)
        for name, value in figures.items():
            line = f"  {name:42} {say(value):>16}"
            if name in targets:
                line += (
                    f"   target {targets[name]['target']:12} {'met' if targets[name]['met'] else 'MISSED'}"
                )
            yield line


def say(value: Any) -> str:
    """Return a figure with about four digits, and thousands apart."""
    if not isinstance(value, float) or not math.isfinite(value):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


_PAGE = """# How fast bars get in and out

Written by `python -m benchmarks.ingestion{options} --write docs/ingestion_benchmarks.md`, everything in one run on one
machine. What each figure means, and how the others were measured, is told in `benchmarks/ingestion/README.md`.

{tables}
"""


def page(results: Mapping[str, Figures], options: str) -> str:
    """Return the figures as a page of Markdown tables."""
    tables = []
    for part, figures in results.items():
        targets = judged(figures)
        rows = [f"## {part}", "", "| figure | value | target | |", "|---|---:|---|---|"]
        for name, value in figures.items():
            goal = targets.get(name)
            told = (goal["target"], "met" if goal["met"] else "missed") if goal else ("", "")
            rows.append(f"| `{name}` | {say(value)} | {told[0]} | {told[1]} |")
        tables.append("\n".join(rows))
    return _PAGE.format(tables="\n\n".join(tables), options=options)
