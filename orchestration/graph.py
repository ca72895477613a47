"""The asset graph as a picture, drawn from the definitions."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import dagster as dg

_BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y, _MARGIN, _LANE = 140, 46, 56, 22, 16, 14
_COLOURS = {"ingestion": "#dbeafe", "features": "#dcfce7", "forecaster": "#fef3c7", "serving": "#fce7f3"}


def all_specs() -> list[dg.AssetSpec]:
    """Return the specifications of the assets that the two code locations make.

    A location also knows, as stubs, assets of the other one that its own wait for; those are left out.
    """
    from orchestration import definitions, training_definitions

    made = []
    for module in (definitions, training_definitions):
        own = module.defs.resolve_asset_graph().materializable_asset_keys
        made += [spec for spec in module.defs.resolve_all_asset_specs() if spec.key in own]
    return sorted(made, key=lambda spec: spec.key.to_user_string())


def draw_graph(specs: Iterable[dg.AssetSpec]) -> str:
    """Draw assets left to right, each one column after the last asset that it is made from; returns an SVG."""
    specs = sorted(specs, key=lambda spec: spec.key.to_user_string())
    parents = {_name(spec.key): sorted(_name(dep.asset_key) for dep in spec.deps) for spec in specs}
    groups = {_name(spec.key): spec.group_name or "default" for spec in specs}
    places = _places(parents)
    columns = 1 + max(column for column, _ in places.values())
    rows = 1 + max(row for _, row in places.values())
    width = 2 * _MARGIN + columns * _BOX_WIDTH + (columns - 1) * _GAP_X
    links = [(places[parent], places[name]) for name, found in parents.items() for parent in found]
    long = sorted(
        (link for link in links if link[1][0] - link[0][0] > 1), key=lambda link: link[1][0] - link[0][0]
    )
    floor = _MARGIN + rows * (_BOX_HEIGHT + _GAP_Y)
    height = floor + len(long) * _LANE + _MARGIN
    edges = [_edge(*link) for link in links if link not in long]
    edges += [_long_edge(*link, floor + lane * _LANE) for lane, link in enumerate(long)]
    boxes = [_box(name, groups[name], places[name]) for name in places]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="13">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(edges + boxes)
        + "\n</svg>\n"
    )


def _places(parents: dict[str, list[str]]) -> dict[str, tuple[int, int]]:
    """Give each asset a column (its longest way from a source) and a row within it."""
    depth: dict[str, int] = {}

    def depth_of(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((depth_of(parent) for parent in parents[name]), default=-1)
        return depth[name]

    filled: dict[int, int] = {}
    places = {}
    for name in sorted(parents, key=lambda name: (depth_of(name), name)):
        column = depth_of(name)
        places[name] = (column, filled.get(column, 0))
        filled[column] = filled.get(column, 0) + 1
    return places


def _corner(place: tuple[int, int]) -> tuple[int, int]:
    column, row = place
    return _MARGIN + column * (_BOX_WIDTH + _GAP_X), _MARGIN + row * (_BOX_HEIGHT + _GAP_Y)


def _box(name: str, group: str, place: tuple[int, int]) -> str:
    x, y = _corner(place)
    colour = _COLOURS.get(group, "#f3f4f6")
    middle = x + _BOX_WIDTH / 2
    return (
        f'<rect x="{x}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6" fill="{colour}" stroke="#6b7280"/>'
        f'<text x="{middle}" y="{y + 20}" text-anchor="middle" font-weight="600">{escape(name)}</text>'
        f'<text x="{middle}" y="{y + 36}" text-anchor="middle" font-size="10" fill="#6b7280">{escape(group)}</text>'
    )


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = _corner(start)
    x2, y2 = _corner(end)
    x1, y1, y2 = x1 + _BOX_WIDTH, y1 + _BOX_HEIGHT // 2, y2 + _BOX_HEIGHT // 2
    middle = (x1 + x2) // 2
    curve = f"M{x1},{y1} C{middle},{y1} {middle},{y2} {x2},{y2}"
    return f'<path d="{curve}" fill="none" stroke="#9ca3af" stroke-width="1.5"/>'


def _long_edge(start: tuple[int, int], end: tuple[int, int], lane: int) -> str:
    """Lead an edge that passes other columns below all boxes, so that it cannot seem to end at one of them."""
    x1, y1 = _corner(start)
    x2, y2 = _corner(end)
    x1, y1, y2 = x1 + _BOX_WIDTH, y1 + _BOX_HEIGHT // 2 + 8, y2 + _BOX_HEIGHT // 2 + 8
    bend = _GAP_X // 2
    curve = (
        f"M{x1},{y1} C{x1 + bend},{y1} {x1},{lane} {x1 + bend},{lane} L{x2 - bend},{lane}"
        f" C{x2},{lane} {x2 - bend},{y2} {x2},{y2}"
    )
    return f'<path d="{curve}" fill="none" stroke="#9ca3af" stroke-width="1.5"/>'


def _name(key: dg.AssetKey) -> str:
    return key.to_user_string()
