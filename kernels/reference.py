"""The generated step function run by plain NumPy: the oracle of the compiled code, and the fallback without a compiler.

All symbols are the lanes of one wide vector; a bar costs about a thousand NumPy calls. Nothing here knows about LLVM,
vector widths, tiles or the settled variant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.generate import Program
from kernels.logarithm import reference_log

Array = NDArray[Any]


def run_reference(
    program: Program,
    columns: Sequence[NDArray[np.float64]],
    clock: NDArray[np.float64],
    state: NDArray[np.float64],
    consumed: int,
    log: Callable[[Array], Array] = reference_log,
) -> NDArray[np.float64]:
    """Run the general step over all bars.

    Parameters
    ----------
    program
        What to run.
    columns
        The program's columns, each (T, S) float64.
    clock
        (C, T) float64, the program's clock values.
    state
        (rows, S) float64, advanced in place.
    consumed
        Bars consumed before.
    log
        Logarithm; the kernels' own says nothing of what has none.

    Returns
    -------
    ndarray
        (F, T, S) float64.
    """
    bars, symbols = columns[0].shape
    out = np.empty((len(program.features), bars, symbols))
    names = _vocabulary(symbols) | {"log": log}
    exec(compile(program.source, "<generated step>", "exec"), names)  # noqa: S102 - our own generated text
    flat = [np.ascontiguousarray(c).reshape(-1) for c in columns]
    with np.errstate(all="ignore"):
        names["general"](
            flat, clock.reshape(-1), bars, state, 0, bars, symbols, 0,
            out.reshape(-1), 0, symbols, bars * symbols, consumed, 0, None,
        )  # fmt: skip
    return out


def first_bad_row(program: Program, columns: Sequence[NDArray[np.float64]]) -> int | None:
    """Row of the first bar that is neither proper nor missing; None where there is none."""
    bars, symbols = columns[0].shape
    names = _vocabulary(symbols)
    exec(compile(program.source, "<generated step>", "exec"), names)  # noqa: S102 - our own generated text
    with np.errstate(invalid="ignore"):
        row = int(
            names["proper_rows"]([np.ascontiguousarray(c).reshape(-1) for c in columns], 0, bars, symbols, 0)
        )
    return None if row == bars else row


def _vocabulary(width: int) -> dict[str, Any]:
    """Counterparts of `lanes.lane_vocabulary` on arrays of `width` values."""

    def put(out: Array, index: int, x: Array | float) -> None:
        out[index : index + width] = x

    def save(state: Array, row: int, x: Array | float) -> None:
        state[row] = x

    def record(state: Array, row: int, k: int, size: int, x: Array | float) -> None:
        state[row + (k & (size - 1))] = x

    return {
        "WIDTH": width,
        "align_stack": lambda: None,
        "fetch_ahead": lambda column, index: None,
        "doubles": lambda columns, index: columns[index],
        "read": lambda column, index: column[index : index + width],
        "tick": lambda clock, index: np.full(width, clock[index]),
        "load": lambda state, row: state[row].copy(),
        "save": save,
        "recall": lambda state, row, k, lag, size: state[row + ((k - lag) & (size - 1))].copy(),
        "record": record,
        "wrap": lambda k, size: k % size,
        "put": put,
        "where": np.where,
        "absolute": np.abs,
        "sqrt": np.sqrt,
        "log": reference_log,
        "present": lambda x: x == x,
        "absent": lambda x: x != x,
        "every": lambda mask: bool(mask.all()),
        "NAN": np.nan,
        "INFINITY": np.inf,
    }
