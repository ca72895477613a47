"""Plots of a judgement as inline SVG: no scripts, no files, readable when printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape

import numpy as np

from training.judgement.results import Bin, Curve, Figure, FoldScores

INK, FAINT, GRID, ACCENT = "#1f2933", "#7b8794", "#e4e7eb", "#0b69a3"
PALETTE = (ACCENT, "#b44d12", "#2d7d46", "#8719e0", "#9aa5b1", "#c2a83e", "#ba2525", "#3e4c59", "#14919b")

Scale = Callable[[float], float]


def reliability(bins: Sequence[Bin], title: str) -> str:
    """Frequency over probability, with intervals; on the diagonal the probabilities are right."""
    size, left, top = 210, 44, 26
    values = [v for b in bins for v in (b.said, b.came, b.low, b.high) if v is not None] or [0.0, 1.0]
    x = _scale(*_padded(values), left, left + size)
    y = _scale(*_padded(values), top + size, top)
    low, high = _padded(values)
    parts = [_line(x(low), y(low), x(high), y(high), FAINT, dashed=True)]
    parts += _axes(x, y, _ticks(low, high), _ticks(low, high), (left, top, size, size))
    for b in bins:
        if b.low is not None and b.high is not None:
            parts.append(_line(x(b.said), y(b.low), x(b.said), y(b.high), ACCENT, width=1.5))
        parts.append(f'<circle cx="{x(b.said):.1f}" cy="{y(b.came):.1f}" r="3.5" fill="{ACCENT}"/>')
    parts.append(_text(left + size / 2, 15, title, weight="600", anchor="middle"))
    parts.append(_text(left + size / 2, top + size + 34, "probability said", anchor="middle", colour=FAINT))
    return _svg(left + size + 14, top + size + 42, parts, f"reliability of {title}")


def intervals(rows: Sequence[tuple[str, Figure]], reference: float, title: str) -> str:
    """A dot and its interval for each row, beside a reference."""
    left, width, each, top = 120, 430, 19, 30
    values = [v for _, f in rows for v in (f.value, f.low, f.high) if v is not None] + [reference]
    low, high = _padded(values)
    x = _scale(low, high, left, left + width)
    bottom = top + each * len(rows)
    parts = [_line(x(reference), top - 4, x(reference), bottom, FAINT, dashed=True)]
    for tick in _ticks(low, high):
        parts.append(_line(x(tick), top - 4, x(tick), bottom, GRID))
        parts.append(_text(x(tick), bottom + 15, f"{tick:g}", anchor="middle", colour=FAINT))
    for i, (name, figure) in enumerate(rows):
        y = top + each * (i + 0.5)
        told = figure.low is not None and figure.high is not None
        off = told and (figure.low > reference or figure.high < reference)  # type: ignore[operator]
        colour = ACCENT if off else FAINT
        parts.append(_text(left - 8, y + 4, name, anchor="end"))
        if told:
            parts.append(_line(x(figure.low), y, x(figure.high), y, colour, width=2))  # type: ignore[arg-type]
        parts.append(f'<circle cx="{x(figure.value):.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
    parts.append(_text(left, 15, title, weight="600"))
    return _svg(left + width + 20, bottom + 24, parts, title)


def curves(named: Sequence[tuple[str, Curve]], title: str) -> str:
    """Sums over time, the first one drawn boldest."""
    left, top, width, height = 60, 30, 560, 230
    times = [t for _, curve in named for t in curve.open_time]
    low, high = _padded([v for _, curve in named for v in curve.value] + [0.0])
    x, y = _scale(min(times), max(times), left, left + width), _scale(low, high, top + height, top)
    months = np.linspace(min(times), max(times), 5)
    parts = _axes(x, y, [], _ticks(low, high), (left, top, width, height), percent=True)
    for month in months:
        parts.append(_text(x(month), top + height + 18, _day(month), anchor="middle", colour=FAINT))
    parts.append(_line(left, y(0), left + width, y(0), FAINT, dashed=True))
    for i, (name, curve) in reversed(list(enumerate(named))):
        points = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in zip(curve.open_time, curve.value, strict=True))
        colour = PALETTE[i % len(PALETTE)]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{2.4 if i == 0 else 1.3}"/>'
        )
        at = top + 12 + 18 * i
        parts.append(_line(left + width + 12, at - 4, left + width + 30, at - 4, colour, width=2.4))
        parts.append(_text(left + width + 36, at, name))
    parts.append(_text(left, 15, title, weight="600"))
    return _svg(left + width + 190, top + height + 28, parts, title)


def timeline(folds: Sequence[FoldScores]) -> str:
    """Where the splits of each fold lie."""
    left, width, each, top = 64, 560, 24, 14
    spans = [span for fold in folds for span in fold.spans.values()]
    first, last = min(s.first_open_time for s in spans), max(s.last_label_time for s in spans)
    x = _scale(first, last, left, left + width)
    colours = {"train": "#9fb3c8", "validation": "#f0b429", "test": ACCENT}
    parts = []
    for i, fold in enumerate(folds):
        y = top + each * i
        parts.append(_text(left - 8, y + 13, f"fold {fold.index + 1}", anchor="end"))
        for name, span in fold.spans.items():
            start, end = x(span.first_open_time), x(span.last_label_time)
            parts.append(
                f'<rect x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="17"'
                f' fill="{colours.get(name, FAINT)}"/>'
            )
    bottom = top + each * len(folds)
    for time in np.linspace(first, last, 5):
        parts.append(_text(x(time), bottom + 12, _day(time), anchor="middle", colour=FAINT))
    for i, (name, colour) in enumerate(colours.items()):
        parts.append(
            f'<rect x="{left + width + 16}" y="{top + 18 * i}" width="12" height="12" fill="{colour}"/>'
        )
        parts.append(_text(left + width + 34, top + 11 + 18 * i, name))
    return _svg(left + width + 110, max(bottom, top + 50) + 20, parts, "spans of the folds")


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img"'
        f' aria-label="{escape(label)}" font-size="11.5">{"".join(parts)}</svg>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK, weight: str = "400"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, *, width: float = 1.0, dashed: bool = False
) -> str:
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"'
        f' stroke-width="{width}"{dash}/>'
    )


def _axes(
    x: Scale,
    y: Scale,
    across: Sequence[float],
    up: Sequence[float],
    box: tuple[float, float, float, float],
    *,
    percent: bool = False,
) -> list[str]:
    left, top, width, height = box
    parts = []
    for tick in across:
        parts.append(_line(x(tick), top, x(tick), top + height, GRID))
        parts.append(_text(x(tick), top + height + 16, f"{tick:g}", anchor="middle", colour=FAINT))
    for tick in up:
        label = f"{100 * tick:g} %" if percent else f"{tick:g}"
        parts.append(_line(left, y(tick), left + width, y(tick), GRID))
        parts.append(_text(left - 6, y(tick) + 4, label, anchor="end", colour=FAINT))
    return parts


def _scale(low: float, high: float, start: float, stop: float) -> Scale:
    return lambda value: start + (value - low) / ((high - low) or 1.0) * (stop - start)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.01
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers inside [low, high]."""
    step = 10.0 ** np.floor(np.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 6)
    first = int(np.ceil(low / step))
    return [round(k * step, 12) for k in range(first, int(np.floor(high / step)) + 1)]


def _day(time_ms: float) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()
