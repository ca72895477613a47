"""What may stand in a formula: numbers of bars, constants, and Series where a number or a condition belongs."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from kernels.errors import KernelError

_OF_CONDITIONS = ("and", "or")


def whole(what: str, bars: Any, least: int = 1) -> int:
    """Return a number of bars as an int.

    Raises
    ------
    KernelError
        It is no whole number, or fewer than `least`: a window that reaches ahead, or holds nothing.
    """
    number = isinstance(bars, Integral) and not isinstance(bars, bool)
    if number and bars >= least:
        return int(bars)
    why = "formulas look back, never ahead" if number else "a / b is no whole number in Python, a // b is one"
    raise KernelError(
        f"{what} of {bars!r} bars",
        where="a feature's formula",
        remedy=f"give a whole number of at least {least}: {why}",
    )


def operand(op: str, place: int, value: Any) -> Any:
    """Return what an operation is given at a place: a Series as it is, a number as float.

    Raises
    ------
    KernelError
        A condition where a number belongs, or the other way round, or what is neither Series nor finite number.
    """
    condition = op in _OF_CONDITIONS or (op == "where" and place == 0)
    kind = getattr(value, "is_mask", None)
    if kind is None and not condition and not isinstance(value, bool) and isinstance(value, Real):
        if math.isfinite(value):
            return float(value)
        raise KernelError(
            f"{float(value)} in a formula",
            where=f"an argument of {op}",
            remedy="keep to finite numbers: features are NaN where they have no value by themselves",
        )
    if kind == condition:
        return value
    if condition:
        what, remedy = "no condition", "compare with >, >=, < or <="
    elif kind:
        what, remedy = "a condition, no number", "make numbers of it with where(condition, 1.0, 0.0)"
    else:
        what, remedy = (
            "neither a Series nor a number",
            "build formulas from the blocks of docs/own-features.md",
        )
    raise KernelError(f"an argument of {op} is {what}", where=_shown(value), remedy=remedy)


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value.op}" if hasattr(value, "op") else repr(value)[:80]
