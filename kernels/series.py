"""The language that features are written in: a `Series` is one float64 value per bar and symbol.

A formula is an ordinary Python function over Series. It runs once, at build time, and leaves behind a graph of
arithmetic; `generate` turns the graphs of all chosen features into one step function, so that features share what they
have in common (`ema(close, 12)` is computed once however many features use it).

Beside each value the graph knows *when it is valid*. Validity never travels inside the numbers as NaN: it is a
conjunction of conditions "this source has been valid for at least d bars in a row", where a source is a column of the
panel or a seeded recursion. From that follow warm-up, gaps, late starts and early ends, the same for every feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NoReturn, TypeAlias

from kernels.errors import KernelError
from kernels.operands import operand, whole

BAR_COLUMNS = ("open", "high", "low", "close", "volume")
"""Columns every panel has; a bar has all of them or is missing."""
EXTRA_COLUMNS = ("quote_volume", "trades", "taker_buy_base", "taker_buy_quote")
"""Columns a panel may have; each may be missing (NaN) on its own."""
CLOCK_COLUMNS = ("hour_sin", "hour_cos", "day_sin", "day_cos")
"""Derived from open_time: one value per bar, the same for all symbols."""

Source: TypeAlias = tuple[Any, ...]
Validity: TypeAlias = tuple[tuple[Source, int], ...]
"""((source, d), ...): valid at a bar when every source has been valid for its last d bars."""
Number: TypeAlias = float | int
LEAST = 1e-290
"""Divisors are positive from here on: far below every price, volume and square of them, far above denormal numbers."""


def merge(*validities: Validity) -> Validity:
    """All conditions at once, each source at its greatest depth."""
    deepest: dict[Source, int] = {}
    for validity in validities:
        for source, depth in validity:
            deepest[source] = max(depth, deepest.get(source, 0))
    return tuple(sorted(deepest.items(), key=repr))


def lagged(validity: Validity, bars: int) -> Validity:
    """Hold the conditions that a value `bars` ago needs, together with everything since."""
    return tuple((source, depth + bars) for source, depth in validity)


@dataclass(eq=False, slots=True)
class Recursion:
    """Registers carried from bar to bar; they hold while their inputs are invalid."""

    warmup: int
    states: tuple[Series, ...] = ()
    updates: tuple[Series, ...] = ()
    validity: Validity = ()
    longest_seeding: int = 0

    @property
    def source(self) -> Source:
        """Name of "inputs valid now, and at least `warmup` times so far"; equal for equal conditions."""
        return ("seeded", self.validity, self.warmup)


@dataclass(eq=False, slots=True)
class Series:
    """One node of the graph. Arithmetic and comparisons make new nodes; equal expressions are the same node."""

    graph: Graph
    index: int
    op: str
    args: tuple[Any, ...]
    validity: Validity
    is_mask: bool = False
    inside: frozenset[int] = field(default_factory=frozenset)

    def __add__(self, other: Series | Number) -> Series:
        return self.graph.node("add", self, other)

    def __radd__(self, other: Number) -> Series:
        return self.graph.node("add", other, self)

    def __sub__(self, other: Series | Number) -> Series:
        return self.graph.node("sub", self, other)

    def __rsub__(self, other: Number) -> Series:
        return self.graph.node("sub", other, self)

    def __mul__(self, other: Series | Number) -> Series:
        return self.graph.node("mul", self, other)

    def __rmul__(self, other: Number) -> Series:
        return self.graph.node("mul", other, self)

    def __truediv__(self, other: Series | Number) -> Series:
        return self.graph.node("div", self, other)

    def __rtruediv__(self, other: Number) -> Series:
        return self.graph.node("div", other, self)

    def __neg__(self) -> Series:
        return self.graph.node("sub", 0.0, self)

    def __gt__(self, other: Series | Number) -> Series:
        return self.graph.node("gt", self, other)

    def __ge__(self, other: Series | Number) -> Series:
        return self.graph.node("ge", self, other)

    def __lt__(self, other: Series | Number) -> Series:
        return self.graph.node("lt", self, other)

    def __le__(self, other: Series | Number) -> Series:
        return self.graph.node("le", self, other)

    def __and__(self, other: Series) -> Series:
        return self.graph.node("and", self, other)

    def __or__(self, other: Series) -> Series:
        return self.graph.node("or", self, other)

    def __bool__(self) -> bool:
        raise KernelError(
            "a Series has no single truth value",
            where=f"node {self.index} ({self.op})",
            remedy="a formula is traced once for all bars: write where(condition, a, b) instead of if, and, or, not, "
            "min and max",
        )

    def __eq__(self, other: object) -> NoReturn:
        raise KernelError(
            "Series compared with == or !=",  # by default an answer about objects, for all bars at once
            where=f"node {self.index} ({self.op})",
            remedy="write (a >= b) & (a <= b)",
        )

    __hash__ = object.__hash__


MASK_OPS = frozenset({"gt", "ge", "lt", "le", "and", "or"})
_PLACED = frozenset({"column", "clock", "lag", "count", "early", "state", "carried"})
"""Operations whose arguments are names and places, made by the functions below; those of others are `operand`s."""


class Graph:
    """The expressions of one set of features."""

    def __init__(self) -> None:
        self.nodes: list[Series] = []
        self.recursions: list[Recursion] = []
        self.memo: dict[Any, Any] = {}
        self._known: dict[tuple[Any, ...], Series] = {}

    def node(self, op: str, *args: Any, validity: Validity | None = None) -> Series:
        """Find or make the node `op(args)`; plain numbers become float constants."""
        fixed = args if op in _PLACED else tuple(operand(op, place, a) for place, a in enumerate(args))
        key = (op, *(("node", a.index) if isinstance(a, Series) else a for a in fixed))
        found = self._known.get(key)
        if found is None:
            series = [a for a in fixed if isinstance(a, Series)]
            if any(s.graph is not self for s in series):
                raise KernelError(
                    "a Series of another graph",
                    where=f"an argument of {op}",
                    remedy="keep no Series from one call of a formula to the next",
                )
            found = Series(
                graph=self,
                index=len(self.nodes),
                op=op,
                args=fixed,
                validity=merge(*(s.validity for s in series)) if validity is None else validity,
                is_mask=op in MASK_OPS,
                inside=frozenset().union(*(s.inside for s in series)),
            )
            self.nodes.append(found)
            self._known[key] = found
        return found

    def column(self, name: str) -> Series:
        """Return a column of the panel as a Series."""
        source: Validity = ((("bar",), 1),)
        if name in EXTRA_COLUMNS:
            source = merge(source, (((name,), 1),))
        elif name not in BAR_COLUMNS + CLOCK_COLUMNS:
            raise KernelError(
                f"a bar has no column {name!r}",
                where="a feature's formula",
                remedy=f"use one of {', '.join(BAR_COLUMNS + EXTRA_COLUMNS + CLOCK_COLUMNS)}",
            )
        return self.node("clock" if name in CLOCK_COLUMNS else "column", name, validity=source)


class Bar:
    """What a formula sees: the columns of the bar that has just closed, as attributes."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __getattr__(self, name: str) -> Series:
        return self._graph.column(name)


_tracing: list[Graph] = []


@contextmanager
def tracing(graph: Graph) -> Iterator[Bar]:
    """Formulas called inside the block build their nodes in `graph`."""
    _tracing.append(graph)
    try:
        yield Bar(graph)
    finally:
        _tracing.pop()


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a building block computed once per graph and argument list, however many features call it."""

    @wraps(function)
    def once(*args: Any, **options: Any) -> Any:
        memo = _tracing[-1].memo
        named = tuple(sorted(options.items(), key=lambda item: item[0]))
        key = (function, tuple(_identity(a) for a in args), tuple((k, _identity(v)) for k, v in named))
        if key not in memo:
            memo[key] = function(*args, **options)
        return memo[key]

    return once


def _identity(value: Any) -> Any:
    if isinstance(value, Series):
        return ("node", value.index)
    if isinstance(value, Bar):
        return "bar"
    return value


def where(condition: Series, yes: Series | Number, no: Series | Number) -> Series:
    """`yes` where the condition holds, else `no`; both sides are evaluated."""
    return _tracing[-1].node("where", condition, yes, no)


def maximum(a: Series, b: Series | Number) -> Series:
    """Larger of the two."""
    return where(a > b, a, b)


def minimum(a: Series, b: Series | Number) -> Series:
    """Smaller of the two."""
    return where(a < b, a, b)


def absolute(x: Series) -> Series:
    """Magnitude."""
    return x.graph.node("abs", x)


def sqrt(x: Series) -> Series:
    """Square root, correctly rounded."""
    return x.graph.node("sqrt", x)


def log(x: Series) -> Series:
    """Natural logarithm of a positive, normal number, to within one unit in the last place."""
    return x.graph.node("log", x)


def ratio(a: Series | Number, b: Series, otherwise: Series | Number = 0.0) -> Series:
    """`a / b` where b is positive, else `otherwise`.

    What has faded below `LEAST` in a market that stands still counts as 0: there float64 runs out of digits.
    """
    return where(b > LEAST, a / b, otherwise)


def previous(x: Series, bars: int = 1) -> Series:
    """Value of `x` that many bars ago on the time grid; invalid while a missing bar lies between."""
    bars = whole("previous", bars, least=0)
    if x.inside:
        raise KernelError(
            "previous() of a value that depends on the state of a recursion",
            where=f"node {x.index} ({x.op})",
            remedy="carry it as a second state of that recursion",
        )
    return x if bars == 0 else x.graph.node("lag", x, bars, validity=lagged(x.validity, bars))


class Seeding:
    """How far a recursion has come, for its step function."""

    def __init__(self, graph: Graph, recursion: Recursion) -> None:
        self._graph = graph
        self._recursion = recursion

    @property
    def count(self) -> Series:
        """Valid bars so far, this one included; meaningful only on the early side of `until`."""
        return self._graph.node("count", self._recursion, validity=())

    def until(self, n: int, early: Series | Number, later: Series | Number) -> Series:
        """`early` for the first n valid bars, then `later`."""
        n = whole("until", n, least=0)
        self._recursion.longest_seeding = max(self._recursion.longest_seeding, n)
        sides = (operand("until", place, side) for place, side in enumerate((early, later)))
        return self._graph.node("early", self._recursion, float(n), *sides)


def recursive(
    step: Callable[..., Any], *, warmup: int = 1, start: Sequence[Series | Number] = (0.0,)
) -> tuple[Series, ...]:
    """Carry one or more values from bar to bar.

    Parameters
    ----------
    step
        ``step(seeding, *old) -> new`` (a Series, or a tuple of as many as `start` has).
    warmup
        Valid bars that it takes until the result is valid.
    start
        What `old` is at the first valid bar.

    Returns
    -------
    tuple of Series
        The new values. While an input is invalid the state holds and the result is invalid.
    """
    graph = _tracing[-1]
    recursion = Recursion(whole("the warm-up", warmup))
    graph.recursions.append(recursion)
    number = len(graph.recursions)
    states = []
    for position in range(len(start)):
        state = graph.node("state", recursion, position, validity=())
        state.inside = frozenset({number})
        states.append(state)
    seeding = Seeding(graph, recursion)
    old = [
        seeding.until(1, first, s) if isinstance(first, Series) or first != 0.0 else s
        for s, first in zip(states, start, strict=True)
    ]
    result = step(seeding, *old)
    updates = tuple(result) if isinstance(result, tuple) else (result,)
    if len(updates) != len(states) or not all(isinstance(u, Series) and not u.is_mask for u in updates):
        raise KernelError(
            "the step of a recursion does not give one Series for each state",
            where=f"{len(states)} states, {len(updates)} results",
            remedy="return as many Series as `start` has values",
        )
    if any(update.inside - {number} for update in updates):
        raise KernelError(
            "a recursion inside the step of another",
            where=f"recursion {number} of the graph",
            remedy="carry both states in one recursion",
        )
    recursion.states = tuple(states)
    recursion.updates = updates
    recursion.validity = merge(*(u.validity for u in updates))
    if not recursion.validity:
        raise KernelError(
            "a recursion that reads no column of the bar",
            where=f"recursion {number} of the graph",
            remedy="let its step use one: that says at which bars it goes on",
        )
    outputs = []
    for position, update in enumerate(updates):
        output = graph.node("carried", recursion, position, update, validity=((recursion.source, 1),))
        output.inside = update.inside - {number}
        outputs.append(output)
    return tuple(outputs)
