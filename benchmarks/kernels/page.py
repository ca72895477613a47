"""The figures beside what they should be, as a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.targets import Targets, table

Figures = Mapping[str, float | int | str]

TARGETS: Final[Targets] = {
    "talib_discarded_ratio": (">=", 7),
    "talib_kept_ratio": (">=", 14),
    "pandas_ratio": (">=", 1_500),
    "stream_us_500x31": ("<=", 25),
    "stream_talib_ratio": (">=", 130),
    "stream_talipp_ratio": (">=", 1_500),
    "scaling_50_to_5000": ("<=", 1),
    "first_result_s": ("<=", 2.5),
}


def page(figures: Figures) -> str:
    """Return the page, in Markdown."""
    lines = [
        "# How fast features are computed",
        "",
        "Written by",
        "",
        f"    python -m benchmarks.kernels --rounds {figures['rounds']} --write docs/kernel_speed.md",
        "",
        "in one run, on one pinned core (but for `default_ns_2`); medians of runs that took turns. What each",
        "figure means is told at the head of `benchmarks/kernels/__main__.py`. Whole runs differ by a tenth.",
        "",
        *table(figures, TARGETS),
        "",
        "The pandas version (`benchmarks/kernels/peers.py`) hands NumPy arrays to `rolling.apply`, as good",
        "practice has it. Most of its time goes into Python functions called once per bar (CCI, Aroon, WMA): that",
        "ratio says as much about the machine's Python as about pandas.",
    ]
    return "\n".join(lines) + "\n"
