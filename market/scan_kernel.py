"""The compiled part of `market.kline_scan`: rows of digits, points and the marks between them, to columns.

Eight characters are looked at together, in one 64-bit word: whether they are digits, how many are, and what number they
make (Lemire and Mula 2021, "SIMD within a register" parsing as in "Number Parsing at a Gigabyte per Second", section
on parsing 8 digits). Importing this module imports Numba.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

PADDING = 32
"""Bytes that must follow a text: a word is read where a number may begin, however little is left."""
MOST_DIGITS = 18
FIELDS = 12
DECIMAL = 16
"""Added to the place of a decimal field among the decimals, where a whole one has its place among the wholes."""
UNUSED = 99

_EXACT = np.uint64(2**53)
_COMMA, _POINT, _QUOTE, _OPEN, _CLOSE, _LINE, _RETURN, _ZERO = map(np.uint8, b',."[]\n\r0')
_ZEROS, _ABOVE_NINE, _TOP_BITS = (
    np.uint64(0x3030303030303030),
    np.uint64(0x7676767676767676),
    np.uint64(0x8080808080808080),
)
_PAIRS, _FOURS, _EIGHTS = (
    np.uint64(0x0F0F0F0F0F0F0F0F),
    np.uint64(0x00FF00FF00FF00FF),
    np.uint64(0x0000FFFF0000FFFF),
)
_TIMES_PAIRS, _TIMES_FOURS, _TIMES_EIGHTS = map(np.uint64, (2_561, 6_553_601, 42_949_672_960_001))
_TENS = np.array([10.0**power for power in range(MOST_DIGITS + 1)])
_WHOLE_TENS = np.array([10**power for power in range(MOST_DIGITS + 1)], np.uint64)
_1, _2, _3, _8, _10, _16, _32, _64 = map(np.uint64, (1, 2, 3, 8, 10, 16, 32, 64))
_NONE = np.uint64(0)


@intrinsic
def _word(_context: Any, text: Any, at: Any) -> Any:
    """Return the eight bytes of a uint8 array from `at` on, the first one lowest (x86 and ARM are little-endian)."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        word = builder.load(place)
        word.align = 1
        return word

    return types.uint64(text, types.uint64), emit


@intrinsic
def _zeros_below(_context: Any, word: Any) -> Any:
    """Return how many of the lowest bits of a number other than 0 are 0."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.true_bit)

    return types.uint64(types.uint64), emit


def _jit(function: Any) -> Any:
    return numba.njit(nogil=True, boundscheck=False)(function)


@_jit
def _value(digits: Any) -> Any:
    """Return the number that eight digits (each a byte of 0 to 9) make."""
    pairs = ((digits & _PAIRS) * _TIMES_PAIRS) >> _8
    fours = ((pairs & _FOURS) * _TIMES_FOURS) >> _16
    return ((fours & _EIGHTS) * _TIMES_EIGHTS) >> _32


@_jit
def _few(text: Any, at: Any) -> Any:
    """Return the number that begins at `at` and its digits, of which at most eight are read."""
    digits = _word(text, at) ^ _ZEROS
    others = ((digits + _ABOVE_NINE) | digits) & _TOP_BITS
    if others == _NONE:
        return _value(digits), _8
    count = _zeros_below(others) >> _3
    if count == _NONE:
        return _NONE, _NONE
    return _value(digits << (_64 - (count << _3))), count


@_jit
def _digits(text: Any, at: Any) -> Any:
    """Return the number that begins at `at`, and how many digits it has; of more than 19 the number is of no use."""
    number, count = _few(text, at)
    if count < _8:
        return number, count
    more, further = _few(text, at + _8)
    number, count = number * _WHOLE_TENS[further] + more, _8 + further
    if further < _8:
        return number, count
    digit = np.uint64(text[at + count]) - np.uint64(_ZERO)  # what is below "0" wraps around to a large number
    while digit < _10:
        number, count = number * _10 + digit, count + _1
        digit = np.uint64(text[at + count]) - np.uint64(_ZERO)
    return number, count


def scan(
    text: NDArray[np.uint8],
    ends: NDArray[np.int64],
    json: bool,
    places: NDArray[np.int64],
    row: int,
    wholes: NDArray[np.int64],
    decimals: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> int:
    """Read the rows of several texts, one after the other, into columns.

    Parameters
    ----------
    text : uint8 (n + PADDING,)
        The texts, one after the other, and `PADDING` bytes more, whatever they are.
    ends : int64 (texts,)
        Where each of them ends.
    json : bool
        Texts are lists of rows with quoted decimals; otherwise lines of fields with commas between them.
    places : int64 (FIELDS,)
        Where each field goes: a row of `wholes`, `DECIMAL` and a row of `decimals`, or `UNUSED`.
    row : int
        The first column of the result to be filled.
    wholes, decimals : int64 and float64 (rows of the result, n)
        Filled.
    counts : int64 (texts,)
        Filled with the rows of each text.

    Returns
    -------
    int
        How many decimals were left to a slower reader, for which their place in the text is noted, with a minus that
        no decimal has; -1 if anything is irregular.
    """
    at, late = _NONE, 0
    for page in range(ends.size):
        end, before = np.uint64(ends[page]), row
        if json:
            at += _1
        while True:
            if row >= wholes.shape[1] or at >= end:
                return -1
            if json:
                if text[at] != _OPEN:
                    return -1
                at += _1
            for field in range(FIELDS):
                place = places[field]
                quoted = json and place >= DECIMAL
                if quoted:
                    if text[at] != _QUOTE:
                        return -1
                    at += _1
                start = at
                number, count = _digits(text, at)
                at += count
                if count == _NONE:
                    return -1
                if place < DECIMAL:
                    if count > np.uint64(MOST_DIGITS) or (json and count > _1 and text[start] == _ZERO):
                        return -1  # JSON knows no 007
                    wholes[place, row] = np.int64(number)
                else:
                    after_point = _NONE
                    if text[at] == _POINT:
                        part, after_point = _digits(text, at + _1)
                        if after_point == _NONE:
                            return -1
                        at += after_point + _1
                        if count + after_point <= np.uint64(MOST_DIGITS):
                            number = number * _WHOLE_TENS[after_point] + part
                    if place != UNUSED:
                        if count + after_point <= np.uint64(MOST_DIGITS) and number <= _EXACT:
                            decimals[place - DECIMAL, row] = np.float64(number) / _TENS[after_point]
                        else:
                            decimals[place - DECIMAL, row] = -np.float64(start)
                            late += 1
                if quoted:
                    if text[at] != _QUOTE:
                        return -1
                    at += _1
                if field < FIELDS - 1:
                    if text[at] != _COMMA:
                        return -1
                    at += _1
            if not json and text[at] == _RETURN:
                at += _1
            if at >= end or text[at] != (_CLOSE if json else _LINE):
                return -1
            row += 1
            at += _1
            if json:
                if text[at] == _CLOSE:
                    at += _1
                    if at != end:
                        return -1
                    break
                if text[at] != _COMMA:
                    return -1
                at += _1
            elif at == end:
                break
        counts[page] = row - before
    return late
