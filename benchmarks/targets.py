"""Figures beside what they should be, as every benchmark with targets shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

Targets = Mapping[str, tuple[str, float]]
"""Name of a figure to ">=" or "<=" and the value that it is held against."""

TABLE_HEAD = ("| figure | value | target | |", "|---|---:|---|---|")


def judged(figures: Mapping[str, Any], targets: Targets) -> dict[str, dict[str, Any]]:
    """Return target and whether it is met, for the figures that have one."""
    found = {}
    for name, (sign, target) in targets.items():
        if name in figures:
            met = figures[name] >= target if sign == ">=" else figures[name] <= target
            found[name] = {"target": f"{sign} {target:g}", "met": bool(met)}
    return found


def say(value: Any) -> str:
    """Return a figure with about four digits, and thousands apart."""
    if not isinstance(value, float) or not math.isfinite(value):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def told(figures: Mapping[str, Any], targets: Targets) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, value, target and "met" or "missed" of each figure; the last two empty where it has no target."""
    found = judged(figures, targets)
    for name, value in figures.items():
        goal = found.get(name)
        yield name, say(value), *((goal["target"], "met" if goal["met"] else "missed") if goal else ("", ""))


def table(figures: Mapping[str, Any], targets: Targets) -> list[str]:
    """Return the lines of a table in Markdown."""
    rows = [f"| `{name}` | {' | '.join(rest)} |" for name, *rest in told(figures, targets)]
    return [*TABLE_HEAD, *rows]
