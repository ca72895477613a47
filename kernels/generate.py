"""From feature names to the source text of one step function.

Two variants of the same arithmetic are written. `general` tracks for every symbol which values are valid, seeds
recursions, holds state over gaps and emits NaN where the contract says so. `settled` leaves all of that out: it is used
while every symbol of a lane group has had so many clean bars in a row that the conditions hold by themselves, which in
practice is nearly always. Both leave the same bits behind.

The text uses the small vocabulary of `lanes` (compiled) and `reference` (NumPy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kernels.errors import KernelError
from kernels.layout import Layout, plan, reach, recursions, warmup
from kernels.registry import find_family
from kernels.series import BAR_COLUMNS, Graph, Series, Validity, tracing

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/",
    "gt": ">", "ge": ">=", "lt": "<", "le": "<=", "and": "&", "or": "|",
}  # fmt: skip
_CALLS = {"where": "where", "abs": "absolute", "sqrt": "sqrt", "log": "log"}
_SIGNATURE = "columns, clock, bars, state, t, n, S, lane, out, o0, row, plane, k0, ahead, coming"

LEAD = 128
"""Bars before a block's end from which on the next block's state is asked for; earlier, it would not stay."""


def rows_ahead(rows: int) -> int:
    """Rows of the next block's state that a step asks for with each bar."""
    return -(-rows // LEAD)


@dataclass(frozen=True)
class Program:
    """Everything that running a set of features needs to know."""

    features: tuple[str, ...]
    columns: tuple[str, ...]
    clock: tuple[str, ...]
    rows: int
    settle: int
    warmups: tuple[int, ...]
    source: str


def build(features: Sequence[str]) -> Program:
    """Trace the features' formulas and write their fused step function.

    Raises
    ------
    UnknownFeature
        A name that no family matches.
    KernelError
        No feature, or the same one twice.
    """
    if not features or len(set(features)) != len(features):
        raise KernelError(
            "a feature set needs at least one name, each once",
            where=f"features={list(features)}",
            remedy="remove the repeated names",
        )
    graph = Graph()
    outputs = trace(graph, features)
    layout = plan(outputs)
    nodes = reach(outputs)
    extras = tuple(
        dict.fromkeys(n.args[0] for n in nodes if n.op == "column" and n.args[0] not in BAR_COLUMNS)
    )
    clock = tuple(dict.fromkeys(n.args[0] for n in nodes if n.op == "clock"))
    columns = BAR_COLUMNS + extras
    writers = [_Writer(layout, outputs, columns, clock, settled) for settled in (True, False)]
    parts = [w.step() for w in writers] + [_checks(columns)]
    return Program(
        tuple(features), columns, clock, layout.rows, layout.settle,
        tuple(warmup(o) for o in outputs), "\n\n".join(parts) + "\n",
    )  # fmt: skip


def trace(graph: Graph, features: Sequence[str]) -> list[Series]:
    """Build the features' expressions in the graph."""
    with tracing(graph) as bar:
        return [find_family(name).trace(bar, name) for name in features]


class _Writer:
    """Writes one variant of the step function, a statement per node."""

    def __init__(
        self,
        layout: Layout,
        outputs: list[Series],
        columns: Sequence[str],
        clock: Sequence[str],
        settled: bool,
    ) -> None:
        self.layout = layout
        self.outputs = outputs
        self.columns = columns
        self.clock = clock
        self.settled = settled
        looked_back = [n.args[0] for n in reach(outputs) if n.op == "lag"]
        self.nodes = reach([*outputs, *looked_back], settled)
        self.body: list[str] = []
        self.conditions: dict[Validity, str] = {}
        self.after: dict[int, list[str]] = {}

    def step(self) -> str:
        """Source text of the function."""
        for node in self.nodes:
            if node.op == "column":
                self.body.append(f"v{node.index} = read(c_{node.args[0]}, at)")
        if not self.settled:
            self._write_validity()
        self._schedule()
        for node in self.nodes:
            self._write_node(node)
            self.body.extend(self.after.pop(node.index, ()))
        self._write_updates()
        registers = self._registers()
        lines = [f"def {'settled' if self.settled else 'general'}({_SIGNATURE}):"]
        lines += ["    align_stack()"]
        lines += [f"    c_{name} = doubles(columns, {i})" for i, name in enumerate(self.columns)]
        lines += [f"    {name} = load(state, {row})" for name, row in registers.items()]
        lines += ["    for i in range(n):", "        at = (t + i) * S + lane", "        to = o0 + i * row"]
        lines += ["        k = k0 + i"]
        lines += [f"        fetch_ahead(c_{name}, at + ahead)" for name in self.columns]
        # one after the other: a loop within this one would break its body in two, for a tenth of the time
        each = rows_ahead(self.layout.rows)
        lines += [f"        fetch_ahead(coming, (i * {each} + {row}) * WIDTH)" for row in range(each)]
        lines += [f"        {statement}" for statement in self.body]
        lines += [f"    save(state, {row}, {name})" for name, row in registers.items()]
        return "\n".join(lines)

    def _registers(self) -> dict[str, int]:
        layout = self.layout
        names = {f"s{index}": row for index, row in layout.registers.items()}
        names |= {f"d{index}": row for index, row in layout.delays.items()}
        if not self.settled:
            names |= {f"r{row}": row for row, _ in layout.runs.values()}
            names |= {f"n{row}": row for row, _ in layout.counts.values()}
            names |= {"clean": 0}
        return names

    def _ref(self, value: Any) -> str:
        """How a node or a constant is spelled in the text."""
        if not isinstance(value, Series):
            return repr(value)
        if value.op == "carried":
            return self._ref(value.args[2])
        if value.op == "early" and self.settled:
            return self._ref(value.args[3])
        if value.op == "state":
            return f"s{value.index}"
        if value.op == "count":
            return f"n{self.layout.counts[value.args[0].validity][0]}"
        if value.op == "lag" and value.args[0].index in self.layout.delays:
            return f"d{value.args[0].index}"
        return f"v{value.index}"

    def _write_node(self, node: Series) -> None:
        name = f"v{node.index}"
        args = [self._ref(a) for a in node.args if isinstance(a, Series | float)]
        if node.op in _INFIX:
            self.body.append(f"{name} = {args[0]} {_INFIX[node.op]} {args[1]}")
        elif node.op in _CALLS:
            self.body.append(f"{name} = {_CALLS[node.op]}({', '.join(args)})")
        elif node.op == "clock":
            self.body.append(f"{name} = tick(clock, {self.clock.index(node.args[0])} * bars + t + i)")
        elif node.op == "early" and not self.settled:
            count = f"n{self.layout.counts[node.args[0].validity][0]}"
            self.body.append(f"{name} = where({count} <= {node.args[1]!r}, {args[1]}, {args[2]})")
        elif node.op == "lag" and node.args[0].index in self.layout.rings:
            self._write_lag(name, node)

    def _write_lag(self, name: str, node: Series) -> None:
        ring, bars = self.layout.rings[node.args[0].index], node.args[1]
        if ring.mirrored:
            row = f"{ring.first_row + ring.size - bars} + wrap(k, {ring.size})"
            self.body.append(f"{name} = load(state, {row})")
        else:
            self.body.append(f"{name} = recall(state, {ring.first_row}, k, {bars}, {ring.size})")

    def _write_validity(self) -> None:
        """Advance the counters; sources come after those that they rest on."""
        layout = self.layout
        known = {name: f"v{n.index}" for n in self.nodes if n.op == "column" for name in n.args}
        for name in self.columns:
            if name not in known:
                self.body.append(f"x_{name} = read(c_{name}, at)")
                known[name] = f"x_{name}"
        self.body.append(f"p_bar = present({known['close']})")
        clean = ["p_bar"]
        for name in self.columns[len(BAR_COLUMNS) :]:
            self.body.append(f"p_{name} = present({known[name]})")
            clean.append(f"p_{name}")
        self.body.append(f"clean = {_advance('clean', ' & '.join(clean), layout.settle)}")
        counted: set[Validity] = set()
        for source, (row, deepest) in layout.runs.items():
            now = f"p_{source[0]}"
            if source[0] == "seeded":
                self._write_count(source[1], counted)
                count = f"n{layout.counts[source[1]][0]}"
                now = f"h{row}"
                held = self._condition(source[1])
                self.body.append(f"{now} = ({count} >= {float(source[2])}) & {held}")
            self.body.append(f"r{row} = {_advance(f'r{row}', now, deepest)}")
        for validity in layout.counts:
            self._write_count(validity, counted)

    def _write_count(self, validity: Validity, counted: set[Validity]) -> None:
        if validity in counted:
            return
        counted.add(validity)
        row, most = self.layout.counts[validity]
        held = self._condition(validity)
        self.body.append(f"n{row} = where({held} & (n{row} < {float(most)}), n{row} + 1.0, n{row})")

    def _condition(self, validity: Validity) -> str:
        """Name of the mask that says where the condition holds."""
        if validity not in self.conditions:
            name = f"m{len(self.conditions)}"
            terms = [f"(r{self.layout.runs[s][0]} >= {float(depth)})" for s, depth in validity]
            self.body.append(f"{name} = {' & '.join(terms)}")
            self.conditions[validity] = name
        return self.conditions[validity]

    def _schedule(self) -> None:
        """Place stores right behind what they store: a value kept for later would only crowd the registers."""
        for position, output in enumerate(self.outputs):
            value = self._ref(output)
            if not self.settled:
                value = f"where({self._condition(output.validity)}, {value}, NAN)"
            self.after.setdefault(output.index, []).append(f"put(out, to + {position} * plane, {value})")
        last_read = {}  # of the oldest value, whose slot the newest takes
        for node in self.nodes:
            if node.op == "lag" and node.args[0].index in self.layout.rings:
                ring = self.layout.rings[node.args[0].index]
                if node.args[1] == ring.size:
                    last_read[node.args[0].index] = node.index
        by_index = {n.index: n for n in self.nodes}
        for index, ring in self.layout.rings.items():
            value = self._ref(by_index[index])
            if ring.mirrored:
                rows = [f"{ring.first_row + half} + wrap(k, {ring.size})" for half in (0, ring.size)]
                statements = [f"save(state, {row}, {value})" for row in rows]
            else:
                statements = [f"record(state, {ring.first_row}, k, {ring.size}, {value})"]
            self.after.setdefault(max(index, last_read.get(index, index)), []).extend(statements)

    def _write_updates(self) -> None:
        """Carry state to the next bar; everything old is read before anything is overwritten."""
        layout, by_index = self.layout, {n.index: n for n in self.nodes}
        pending: list[tuple[str, str]] = []
        for recursion in recursions(self.nodes):
            for state, update in zip(recursion.states, recursion.updates, strict=True):
                if state.index not in layout.registers:
                    continue
                value = self._ref(update)
                if not self.settled:
                    value = f"where({self._condition(recursion.validity)}, {value}, s{state.index})"
                pending.append((f"s{state.index}", value))
        pending += [(f"d{index}", self._ref(by_index[index])) for index in layout.delays]
        self.body += [f"next_{name} = {value}" for name, value in pending]
        self.body += [f"{name} = next_{name}" for name, _ in pending]


def _advance(name: str, condition: str, most: int) -> str:
    """Count up to `most` while the condition holds, start over when it does not."""
    return f"where({condition}, where({name} < {float(most)}, {name} + 1.0, {name}), 0.0)"


def _checks(columns: Sequence[str]) -> str:
    """Functions that find the first row which is not clean, or not even a proper gap, in any lane."""
    reads = [f"        {name} = read(doubles(columns, {i}), at)" for i, name in enumerate(columns)]
    good = [
        "high >= low", "low > 0.0", "open > 0.0", "close > 0.0", "volume >= 0.0",
        "open + high + close + volume < INFINITY",
    ]  # fmt: skip
    bar = "        bar = " + " & ".join(f"({term})" for term in good)
    gap = " & ".join(f"absent({name})" for name in columns[: len(BAR_COLUMNS)])
    extras = [(name, f"(({name} >= 0.0) & ({name} < INFINITY))") for name in columns[len(BAR_COLUMNS) :]]
    loop = ["    for i in range(n):", "        at = (t + i) * S + lane", *reads, bar]
    clean = " & ".join(["bar", *(test for _, test in extras)])
    proper = " & ".join([f"(bar | ({gap}))", *(f"({test} | absent({name}))" for name, test in extras)])

    def search(name: str, body: list[str], test: str) -> list[str]:
        head = f"def {name}(columns, t, n, S, lane):"
        return [head, *body, f"        if not every({test}):", "            return i", "    return n"]

    return "\n".join([*search("clean_rows", loop, clean), "", "", *search("proper_rows", loop, proper)])
