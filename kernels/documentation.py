"""docs/features.md, written from the catalogue."""

from __future__ import annotations

from itertools import groupby

from kernels.catalogue import CATALOGUE, FeatureSpec

_HEAD = """# Features

Written by `python -m kernels docs`; a test holds it against the code. How to add one:
[own-features.md](own-features.md).

`X[n]` is the value of X n bars ago; O H L C V are open, high, low, close and volume of the bar. Warm-up is the number
of bars without a value at the start of a history. A name carries its parameters: `rsi_21` works as well as `rsi_14`,
listed or not. Scale-free features do not change with the unit of price or volume and are comparable between symbols.

A value at bar t uses closed bars up to t only. Where a bar is missing, every feature is NaN; a feature over a window
stays NaN while the gap lies in the window; a recursive one holds its state and goes on with the next value that its
inputs allow. A symbol that starts late warms up when it starts.
"""


def features_page() -> str:
    """Markdown of all listed features, by group."""
    parts = [_HEAD]
    for group, members in groupby(sorted(CATALOGUE.values(), key=lambda s: s.group), key=lambda s: s.group):
        parts.append(f"\n## {group.capitalize()}\n")
        parts.append("| feature | what | formula | source | inputs | warm-up | range | scale-free |")
        parts.append("|---|---|---|---|---|---|---|---|")
        parts += [_row(s) for s in members]
    return "\n".join(parts) + "\n"


def _row(described: FeatureSpec) -> str:
    least, greatest = described.value_range
    span = "any"
    if least is not None or greatest is not None:
        left = "-inf" if least is None else f"{least:g}"
        right = "inf" if greatest is None else f"{greatest:g}"
        span = f"{left} to {right}"
    cells = (
        f"`{described.name}`", described.summary.rstrip("."), described.formula.replace("|", "\\|"),
        described.source, ", ".join(described.inputs), str(described.warmup), span,
        "yes" if described.scale_free else "",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"
