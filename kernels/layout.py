"""Where everything that is carried from bar to bar lies in a symbol's column of state.

Rows of the state, one float64 per symbol each: first how long the symbol has been clean, then how long each source of
validity has been valid in a row (runs) and in all (counts), the registers of recursions, and a ring for every value
that is looked back upon.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kernels.series import Recursion, Series, Source, Validity

_MANY_LAGS = 6


@dataclass(frozen=True)
class Ring:
    """Past values of one Series.

    A power-of-two ring is indexed with a mask. Where many lags are read (a whole window), every value is kept twice,
    `size` rows apart, so that the window is one contiguous stretch and all its rows are one address plus constants.
    """

    first_row: int
    size: int
    mirrored: bool

    @property
    def rows(self) -> int:
        """Rows of state taken."""
        return self.size * (2 if self.mirrored else 1)


@dataclass
class Layout:
    """Rows of state for one set of features."""

    rows: int = 1  # row 0: bars since the last that was not clean
    runs: dict[Source, tuple[int, int]] = field(default_factory=dict)  # source -> (row, deepest)
    counts: dict[Validity, tuple[int, int]] = field(
        default_factory=dict
    )  # inputs -> (row, most that matters)
    registers: dict[int, int] = field(default_factory=dict)  # node of a recursion's old state -> row
    delays: dict[int, int] = field(default_factory=dict)  # node looked back upon by one bar only -> row
    rings: dict[int, Ring] = field(default_factory=dict)  # node -> ring
    settle: int = 0

    def take(self, rows: int) -> int:
        """Reserve rows; returns the first."""
        first = self.rows
        self.rows += rows
        return first


def reach(outputs: Iterable[Series], settled: bool = False) -> list[Series]:
    """Nodes that the outputs depend on, in an order in which they can be computed.

    Once all symbols are `settled`, the early side of a recursion's seeding is out of reach.
    """
    seen: dict[int, Series] = {}
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node.index in seen:
            continue
        seen[node.index] = node
        if node.op == "carried":
            waiting.extend(node.args[0].updates)
        elif node.op == "early" and settled:
            waiting.extend(a for a in node.args[3:] if isinstance(a, Series))
        else:
            waiting.extend(a for a in node.args if isinstance(a, Series))
    return [seen[index] for index in sorted(seen)]


def plan(outputs: list[Series]) -> Layout:
    """Lay out the state for these outputs."""
    layout = Layout()
    nodes = reach(outputs)
    _plan_validity(layout, nodes, outputs)
    lags: dict[int, set[int]] = {}
    for node in nodes:
        if node.op == "state":
            layout.registers[node.index] = layout.take(1)
        elif node.op == "lag":
            lags.setdefault(node.args[0].index, set()).add(node.args[1])
    for index, bars in lags.items():
        if bars == {1}:
            layout.delays[index] = layout.take(1)
            continue
        mirrored = len(bars) >= _MANY_LAGS
        size = max(bars) if mirrored else 1 << (max(bars) - 1).bit_length()
        ring = Ring(layout.rows, size, mirrored)
        layout.rings[index] = ring
        layout.take(ring.rows)
    return layout


def _plan_validity(layout: Layout, nodes: list[Series], outputs: list[Series]) -> None:
    """Counters that the outputs' and the recursions' conditions need, each saturating where it stops mattering."""
    runs: dict[Source, int] = {}
    counts: dict[Validity, int] = {}

    def need(validity: Validity) -> None:
        for source, depth in validity:
            runs[source] = max(runs.get(source, 0), depth)
            if source[0] == "seeded":
                counts[source[1]] = max(counts.get(source[1], 0), source[2])
                need(source[1])

    for output in outputs:
        need(output.validity)
    for recursion in recursions(nodes):
        need(recursion.validity)
        most = max(recursion.warmup, recursion.longest_seeding + 1)
        counts[recursion.validity] = max(counts.get(recursion.validity, 0), most)
    for source in sorted(runs, key=depth_of_nesting):
        layout.runs[source] = (layout.take(1), runs[source])
    for validity in sorted(counts, key=lambda v: max(depth_of_nesting(s) for s, _ in v)):
        layout.counts[validity] = (layout.take(1), counts[validity])
    layout.settle = max(
        [_settled_after(s, layout) for s in layout.runs]
        + [_first_valid(v) - 1 + most for v, (_, most) in layout.counts.items()]
    )


def recursions(nodes: Iterable[Series]) -> list[Recursion]:
    """Return the recursions among the nodes, each once."""
    found: dict[int, Recursion] = {}
    for node in nodes:
        if node.op == "carried":
            found[id(node.args[0])] = node.args[0]
    return list(found.values())


def depth_of_nesting(source: Source) -> tuple[int, str]:
    """Sort key: a source comes after the sources that its own inputs need."""
    if source[0] != "seeded":
        return 0, repr(source)
    return 1 + max(depth_of_nesting(inner)[0] for inner, _ in source[1]), repr(source)


def _first_valid(validity: Validity) -> int:
    """Clean bars until the condition first holds, the bar itself included."""
    longest = 1
    for source, depth in validity:
        before = _first_valid(source[1]) + source[2] - 1 if source[0] == "seeded" else 1
        longest = max(longest, before + depth - 1)
    return longest


def _settled_after(source: Source, layout: Layout) -> int:
    deepest = layout.runs[source][1]
    return _first_valid(((source, deepest),))


def warmup(output: Series) -> int:
    """Bars at the start without a value."""
    return _first_valid(output.validity) - 1
