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
    """Ask for the cache line of an element that will be read soon; harmless beyond the array's end."""

    def emit(context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        place = builder.bitcast(builder.gep(args[0], [args[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, _INDEX, _INDEX, _INDEX])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(hint, [place, *(ir.Constant(_INDEX, value) for value in (0, 3, 1))])
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


@intrinsic
def copy_line(typingctx: Any, target: Any, to: Any, origin: Any, at: Any) -> Any:
    """Copy 64 bytes to an address that is a multiple of 64, past the caches."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, place = _line(context, builder, sig, args)
        store = builder.store(value, place)
        store.align = 64
        once = ir.Constant(ir.IntType(32), 1)
        store.set_metadata("nontemporal", builder.module.add_metadata([once]))
        return context.get_dummy_value()

    return types.void(target, types.intp, origin, types.intp), emit


@intrinsic
def copy_some(typingctx: Any, target: Any, to: Any, origin: Any, at: Any, count: Any) -> Any:
    """Copy the first `count` elements of 64 bytes, to any address; reads all of the 64 bytes."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, place = _line(context, builder, sig, args)
        lanes = value.type.count
        places = ir.Constant(ir.VectorType(_INDEX, lanes), list(range(lanes)))
        mask = builder.icmp_signed("<", places, splat(builder, builder.trunc(args[4], _INDEX), lanes))
        kind = "f32" if value.type.element == ir.FloatType() else "f64"
        signature = ir.FunctionType(ir.VoidType(), [value.type, place.type, _INDEX, mask.type])
        name = f"llvm.masked.store.v{lanes}{kind}.p0"
        store = cgutils.get_or_insert_function(builder.module, signature, name)
        builder.call(store, [value, place, ir.Constant(_INDEX, 4), mask])
        return context.get_dummy_value()

    return types.void(target, types.intp, origin, types.intp, types.int64), emit


def _line(context: Any, builder: Any, sig: Any, args: Any) -> tuple[Any, Any]:
    """64 bytes from the origin, and the pointer to where they go."""
    element = sig.args[0].dtype
    vector = ir.VectorType(context.get_value_type(element), 512 // element.bitwidth).as_pointer()
    value = builder.load(builder.bitcast(builder.gep(args[2], [args[3]]), vector))
    value.align = element.bitwidth // 8
    return value, builder.bitcast(builder.gep(args[0], [args[1]]), vector)


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
    "copy_some": copy_some,
}
"""Names that generated code and the driver use."""
