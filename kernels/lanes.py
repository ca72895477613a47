"""A lane type for Numba: W float64 values in one LLVM vector, one symbol per lane.

Arithmetic on `Lanes` becomes exactly the vector instructions written: no auto-vectoriser decides, nothing is
reassociated or contracted, so each lane computes to the bit what scalar code would. Only what the generated step
functions need is here; `reference` has the same vocabulary in plain NumPy.

Types are registered with Numba's low-level typing (templates and lowering) rather than `@overload`: a step function has
about a thousand operations, and an overload would compile a function for each.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from kernels.logarithm import emit_log
from kernels.memory import MEMORY_VOCABULARY, splat

_DOUBLE = ir.DoubleType()


class Lanes(types.Type):
    """W float64 values."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Lanes({width})")


class LaneMask(types.Type):
    """W truth values."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"LaneMask({width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(_DOUBLE, lanes.width))


@register_model(LaneMask)
class _LaneMaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, mask: LaneMask) -> None:
        super().__init__(manager, mask, ir.VectorType(ir.IntType(1), mask.width))


def _as_lanes(context: Any, builder: Any, kind: Any, value: Any, width: int) -> Any:
    if isinstance(kind, Lanes):
        return value
    return splat(builder, context.cast(builder, value, kind, types.float64), width)


def _lanes_of(args: Any) -> Lanes | None:
    """Lane type among operands that are lanes or numbers; None where there is none."""
    if all(isinstance(a, (Lanes, types.Number)) for a in args):
        return next((a for a in args if isinstance(a, Lanes)), None)
    return None


def _register_operator(
    op: Callable[..., Any], result: Callable[[int], types.Type], emit: Callable[..., Any]
) -> None:
    """Make a Python operator work on Lanes and numbers in any order."""

    @infer_global(op)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            lanes = _lanes_of(args)
            return None if lanes is None else signature(result(lanes.width), *args)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        width = sig.return_type.width
        return emit(
            builder, *(_as_lanes(context, builder, t, v, width) for t, v in zip(sig.args, args, strict=True))
        )

    for left, right in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(op, left, right)(lower)


def _register_mask_operator(op: Callable[..., Any], emit: str) -> None:
    @infer_global(op)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return signature(args[0], *args) if all(isinstance(a, LaneMask) for a in args) else None

    def lower(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return getattr(builder, emit)(*args)

    lower_builtin(op, LaneMask, LaneMask)(lower)


def _arithmetic(instruction: str) -> Callable[..., Any]:
    return lambda builder, a, b: getattr(builder, instruction)(a, b)


def _comparison(predicate: str) -> Callable[..., Any]:
    return lambda builder, a, b: builder.fcmp_ordered(predicate, a, b)


for _op, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _register_operator(_op, Lanes, _arithmetic(_name))
for _op, _name in ((operator.gt, ">"), (operator.ge, ">="), (operator.lt, "<"), (operator.le, "<=")):
    _register_operator(_op, LaneMask, _comparison(_name))
_register_mask_operator(operator.and_, "and_")
_register_mask_operator(operator.or_, "or_")


@intrinsic
def where(typingctx: Any, mask: Any, yes: Any, no: Any) -> Any:
    """`yes` in the lanes where the mask holds, `no` in the others."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        width = sig.return_type.width
        pair = (_as_lanes(context, builder, t, v, width) for t, v in zip(sig.args[1:], args[1:], strict=True))
        return builder.select(args[0], *pair)

    return Lanes(mask.width)(mask, yes, no), emit


def _llvm_function(name: str) -> Any:
    @intrinsic
    def function(typingctx: Any, x: Any) -> Any:
        def emit(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
            vector = args[0].type
            full = f"llvm.{name}.v{vector.count}f64"
            declared = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector]), full)
            return builder.call(declared, [args[0]])

        return x(x), emit

    return function


absolute = _llvm_function("fabs")
sqrt = _llvm_function("sqrt")


@intrinsic
def log(typingctx: Any, x: Any) -> Any:
    """Natural logarithm of positive, normal numbers."""
    return x(x), lambda _context, builder, _sig, args: emit_log(builder, args[0])


@intrinsic
def present(typingctx: Any, x: Any) -> Any:
    """Lanes that hold a number."""
    return LaneMask(x.width)(x), lambda _c, builder, _s, args: builder.fcmp_ordered("ord", args[0], args[0])


@intrinsic
def absent(typingctx: Any, x: Any) -> Any:
    """Lanes that hold NaN."""
    return LaneMask(x.width)(x), lambda _c, builder, _s, args: builder.fcmp_unordered("uno", args[0], args[0])


@intrinsic
def every(typingctx: Any, mask: Any) -> Any:
    """Whether the mask holds in all lanes."""

    def emit(_context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = ir.IntType(sig.args[0].width)
        return builder.icmp_unsigned("==", builder.bitcast(args[0], bits), ir.Constant(bits, -1))

    return types.boolean(mask), emit


def lane_vocabulary(width: int) -> dict[str, Any]:
    """Names that generated code uses, for lanes of one width."""
    vector = ir.VectorType(_DOUBLE, width)

    def element(builder: Any, pointer: Any, index: Any, of: Any) -> Any:
        return builder.bitcast(builder.gep(pointer, [index]), of.as_pointer())

    def fetch(builder: Any, pointer: Any, index: Any) -> Any:
        value = builder.load(element(builder, pointer, index, vector))
        value.align = 8
        return value

    def write(builder: Any, pointer: Any, index: Any, value: Any) -> None:
        builder.store(value, element(builder, pointer, index, value.type)).align = 8

    def int64(value: int) -> Any:
        return ir.Constant(ir.IntType(64), value)

    def slot(builder: Any, row: Any, k: Any, lag: Any, size: Any) -> Any:
        turn = builder.and_(builder.sub(k, lag), builder.sub(size, int64(1)))
        return builder.mul(builder.add(row, turn), int64(width))

    @intrinsic
    def read(typingctx: Any, pointer: Any, index: Any) -> Any:
        return Lanes(width)(pointer, types.intp), lambda _c, builder, _s, args: fetch(builder, *args)

    @intrinsic
    def tick(typingctx: Any, pointer: Any, index: Any) -> Any:
        def emit(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
            return splat(builder, builder.load(builder.gep(args[0], [args[1]])), width)

        return Lanes(width)(pointer, types.intp), emit

    @intrinsic
    def load(typingctx: Any, state: Any, row: Any) -> Any:
        def emit(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
            return fetch(builder, args[0], builder.mul(args[1], int64(width)))

        return Lanes(width)(state, types.intp), emit

    @intrinsic
    def save(typingctx: Any, state: Any, row: Any, x: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = _as_lanes(context, builder, sig.args[2], args[2], width)
            write(builder, args[0], builder.mul(args[1], int64(width)), value)
            return context.get_dummy_value()

        return types.void(state, types.intp, x), emit

    @intrinsic
    def recall(typingctx: Any, state: Any, row: Any, k: Any, lag: Any, size: Any) -> Any:
        def emit(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
            return fetch(builder, args[0], slot(builder, *args[1:]))

        return Lanes(width)(state, types.intp, types.intp, types.intp, types.intp), emit

    @intrinsic
    def record(typingctx: Any, state: Any, row: Any, k: Any, size: Any, x: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            state, row, k, size, x = args
            value = _as_lanes(context, builder, sig.args[4], x, width)
            write(builder, state, slot(builder, row, k, int64(0), size), value)
            return context.get_dummy_value()

        return types.void(state, types.intp, types.intp, types.intp, x), emit

    @intrinsic
    def put(typingctx: Any, out: Any, index: Any, x: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = _as_lanes(context, builder, sig.args[2], args[2], width)
            if sig.args[0].dtype == types.float32:
                value = builder.fptrunc(value, ir.VectorType(ir.FloatType(), width))
            store = builder.store(value, element(builder, args[0], args[1], value.type))
            store.align = sig.args[0].dtype.bitwidth // 8
            return context.get_dummy_value()

        return types.void(out, types.intp, x), emit

    return {
        "WIDTH": width,
        "read": read, "tick": tick, "load": load, "save": save, "recall": recall, "record": record, "put": put,
        "where": where, "absolute": absolute, "sqrt": sqrt, "log": log,
        "present": present, "absent": absent, "every": every,
        **MEMORY_VOCABULARY,
    }  # fmt: skip
