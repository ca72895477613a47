"""Raw memory for compiled code: pointers out of a job's arguments, whole cache lines, hints to the processor.

Raw pointers, because array arguments would cost reference counting in the hot loops.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_INDEX = ir.IntType(32)


def splat(builder: Any, value: Any, width: int) -> Any:
    """Broadcast a scalar to every lane of a vector."""
    vector = ir.VectorType(value.type, width)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INDEX, 0))
    zeros = ir.Constant(ir.VectorType(_INDEX, width), [0] * width)
    return builder.shuffle_vector(first, undefined, zeros)


def _pointers_to(element: types.Type) -> Any:
    @intrinsic
    def pointer(typingctx: Any, addresses: Any, index: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = builder.load(builder.gep(args[0], [args[1]]))
            return builder.inttoptr(value, context.get_value_type(sig.return_type))

        return types.CPointer(element)(addresses, types.intp), emit

    return pointer


doubles = _pointers_to(types.float64)  # the pointer to float64 at a place in an array of addresses
floats = _pointers_to(types.float32)


@intrinsic
def integer(typingctx: Any, job: Any, index: Any) -> Any:
    """Return an entry of an array of integers."""

    def emit(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.load(builder.gep(args[0], [args[1]]))

    return types.int64(job, types.intp), emit


@intrinsic
def shifted(typingctx: Any, pointer: Any, elements: Any) -> Any:
    """Pointer moved by that many elements."""
    return pointer(pointer, types.intp), lambda _c, builder, _s, args: builder.gep(args[0], [args[1]])


@intrinsic
def wrap(typingctx: Any, k: Any, size: Any) -> Any:
    """Remainder of non-negative integers."""
    return types.int64(types.int64, types.int64), lambda _c, builder, _s, args: builder.urem(*args)


@intrinsic
def align_stack(typingctx: Any) -> Any:
    """Align the calling function's stack to 64 bytes: spilled vectors would straddle cache lines otherwise."""

    def emit(context: Any, builder: Any, _sig: Any, _args: Any) -> Any:
        attributes = builder.function.attributes
        attributes.alignstack = 64
        attributes.add("nounwind")  # llvmlite prints alignstack only beside another attribute
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def fetch_ahead(typingctx: Any, pointer: Any, index: Any) -> Any:
    """Have the line of an element brought to the second-level cache; harmless beyond the array's end."""

    def emit(context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        place = builder.bitcast(builder.gep(args[0], [args[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, _INDEX, _INDEX, _INDEX])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(hint, [place, *(ir.Constant(_INDEX, value) for value in (0, 2, 1))])
        return context.get_dummy_value()

    return types.void(pointer, types.intp), emit


@intrinsic
def misalignment(typingctx: Any, pointer: Any, index: Any) -> Any:
    """Elements from the start of the 64-byte line that holds element `index`."""

    def emit(_context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte = builder.ptrtoint(builder.gep(args[0], [args[1]]), ir.IntType(64))
        inside = builder.and_(byte, ir.Constant(ir.IntType(64), 63))
        return builder.udiv(inside, ir.Constant(ir.IntType(64), sig.args[0].dtype.bitwidth // 8))

    return types.int64(pointer, types.intp), emit


def _copy_past_caches(whole_line: bool) -> Any:
    """Copy of one element, or of 64 bytes to an address that is a multiple of 64, without a look at the caches."""

    @intrinsic
    def copy(typingctx: Any, target: Any, to: Any, origin: Any, at: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            bits = sig.args[0].dtype.bitwidth
            unit = ir.IntType(bits)  # there is such a store for integers of this size, not for floats
            moved = ir.VectorType(unit, 512 // bits) if whole_line else unit
            target, to, origin, at = args
            value = builder.load(builder.bitcast(builder.gep(origin, [at]), moved.as_pointer()))
            value.align = bits // 8
            store = builder.store(value, builder.bitcast(builder.gep(target, [to]), moved.as_pointer()))
            store.align = 64 if whole_line else bits // 8
            once = ir.Constant(ir.IntType(32), 1)
            store.set_metadata("nontemporal", builder.module.add_metadata([once]))
            return context.get_dummy_value()

        return types.void(target, types.intp, origin, types.intp), emit

    return copy


copy_line = _copy_past_caches(whole_line=True)
copy_one = _copy_past_caches(whole_line=False)


MEMORY_VOCABULARY = {
    "doubles": doubles,
    "floats": floats,
    "integer": integer,
    "shifted": shifted,
    "wrap": wrap,
    "align_stack": align_stack,
    "fetch_ahead": fetch_ahead,
    "misalignment": misalignment,
    "copy_line": copy_line,
    "copy_one": copy_one,
}
"""Names that generated code and the driver use."""
