"""Numba at work: from a program's source text to object code. Imported only when nothing suitable is cached."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cfunc, njit, types

from kernels.driver import make_advance, make_driver, make_flush
from kernels.generate import Program
from kernels.lanes import lane_vocabulary

_STEPS = ("settled", "general", "clean_rows", "proper_rows")


def compile_program(program: Program, width: int, out_bits: int) -> tuple[str, bytes]:
    """Compile for this machine.

    Parameters
    ----------
    program
        Source text of the steps.
    width
        Symbols per lane group; 1 gives scalar code.
    out_bits
        32 or 64.

    Returns
    -------
    symbol, object code
        The symbol is a C function ``int64 f(const int64 *job)``; the code refers to nothing outside itself.
    """
    strict = njit(error_model="numpy", fastmath=False, boundscheck=False)
    names: dict[str, Any] = {**lane_vocabulary(width), "NAN": np.nan, "INFINITY": np.inf, "compile": strict}
    exec(compile(program.source, "<generated step>", "exec"), names)  # noqa: S102 - our own generated text
    names |= {name: strict(names[name]) for name in _STEPS}
    names["advance"] = strict(make_advance(names, program.settle, program.rows))
    names["flush"] = strict(make_flush(names, out_bits))
    drive = make_driver(names, len(program.features), program.rows, out_bits)
    compiled = cfunc(types.int64(types.CPointer(types.int64)), error_model="numpy")(drive)
    code = compiled._library.serialize_using_object_code()[2][0]
    return compiled._wrapper_name, code
