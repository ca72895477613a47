"""Natural logarithm, once as LLVM vector instructions and once in NumPy, equal to the last bit.

NumPy's and the C library's `log` differ between machines and between vector and scalar code. This is the algorithm of
fdlibm's e_log.c (x = 2^e (1 + f), a polynomial in f / (2 + f)), without its branches, for positive normal numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_SQRT2 = 1.4142135623730951
_ODD = (
    6.666666666666735130e-01,
    2.857142874366239149e-01,
    1.818357216161805012e-01,
    1.479819860511658591e-01,
)
_EVEN = (3.999999999940941908e-01, 2.222219843214978396e-01, 1.531383769920937332e-01)
_MANTISSA = 0x000FFFFFFFFFFFFF
_ONE = 0x3FF0000000000000
_MAGIC = 0x4330000000000000  # bits of 2^52: an integer below 2^52 in its mantissa reads as 2^52 + integer
_BIAS = 4503599627370496.0 + 1023.0


def _series(f: Any, square_of: Any) -> tuple[Any, Any, Any]:
    """Polynomial part; written once for NumPy arrays and for the builder's values below."""
    s = f / (f + 2.0)
    z = s * s
    w = z * z
    even = w * (_EVEN[0] + w * (_EVEN[1] + w * _EVEN[2]))
    odd = z * (_ODD[0] + w * (_ODD[1] + w * (_ODD[2] + w * _ODD[3])))
    return s, even + odd, square_of(f) * 0.5


def _assemble(e: Any, f: Any) -> Any:
    s, tail, half = _series(f, lambda x: x * x)
    return e * _LN2_HIGH - ((half - (s * (half + tail) + e * _LN2_LOW)) - f)


def reference_log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithm of each element, in NumPy."""
    bits = np.ascontiguousarray(x, dtype=np.float64).view(np.int64)
    m = ((bits & _MANTISSA) | _ONE).view(np.float64)
    e = ((bits >> 52) & 0x7FF | _MAGIC).view(np.float64) - _BIAS
    big = m > _SQRT2
    result: NDArray[np.float64] = _assemble(np.where(big, e + 1.0, e), np.where(big, m * 0.5, m) - 1.0)
    return result


class _Value:
    """Arithmetic on LLVM vectors, so that the formula above is written once."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def _other(self, other: Any) -> Any:
        if isinstance(other, _Value):
            return other.value
        return ir.Constant(self.value.type, [other] * self.value.type.count)

    def __add__(self, other: Any) -> _Value:
        return _Value(self.builder, self.builder.fadd(self.value, self._other(other)))

    def __radd__(self, other: float) -> _Value:
        return _Value(self.builder, self.builder.fadd(self._other(other), self.value))

    def __sub__(self, other: Any) -> _Value:
        return _Value(self.builder, self.builder.fsub(self.value, self._other(other)))

    def __mul__(self, other: Any) -> _Value:
        return _Value(self.builder, self.builder.fmul(self.value, self._other(other)))

    def __truediv__(self, other: Any) -> _Value:
        return _Value(self.builder, self.builder.fdiv(self.value, self._other(other)))


def emit_log(builder: Any, x: Any) -> Any:
    """Append the instructions for the logarithm of the LLVM vector `x`."""
    integers = ir.VectorType(ir.IntType(64), x.type.count)

    def constant(value: int) -> Any:
        return ir.Constant(integers, [value] * x.type.count)

    bits = builder.bitcast(x, integers)
    mantissa = builder.or_(builder.and_(bits, constant(_MANTISSA)), constant(_ONE))
    shift = builder.and_(builder.lshr(bits, constant(52)), constant(0x7FF))
    m = _Value(builder, builder.bitcast(mantissa, x.type))
    e = _Value(builder, builder.bitcast(builder.or_(shift, constant(_MAGIC)), x.type))
    e = e + -_BIAS
    big = builder.fcmp_ordered(">", m.value, m._other(_SQRT2))
    m = _Value(builder, builder.select(big, (m * 0.5).value, m.value))
    e = _Value(builder, builder.select(big, (e + 1.0).value, e.value))
    return _assemble(e, m + -1.0).value
