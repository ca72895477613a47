"""The figures beside what they should be: a table for people, a page for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from benchmarks.ingestion.measure import Figures
from benchmarks.targets import Targets, table, told

TARGETS: Final[Targets] = {
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


def lines(results: Mapping[str, Figures]) -> Iterator[str]:
    """Yield a line per figure, with its target where it has one."""
    for part, figures in results.items():
        yield f"\n{part}"
        for name, value, target, met in told(figures, TARGETS):
            goal = f"   target {target:12} {'MISSED' if met == 'missed' else met}" if target else ""
            yield f"  {name:42} {value:>16}{goal}"


_PAGE = """# How fast bars get in and out

Written by `python -m benchmarks.ingestion{options} --write docs/ingestion_benchmarks.md`, everything in one run on one
machine. What each figure means, and how the others were measured, is told in `benchmarks/ingestion/README.md`.

{tables}
"""


def page(results: Mapping[str, Figures], options: str) -> str:
    """Return the figures as a page of Markdown tables."""
    tables = ["\n".join([f"## {part}", "", *table(figures, TARGETS)]) for part, figures in results.items()]
    return _PAGE.format(tables="\n\n".join(tables), options=options)
