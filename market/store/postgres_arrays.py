"""Arrays for PostgreSQL in its binary format, which numpy lays out whole: no Python object for each value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format

_INT8, _FLOAT8, _BYTEA = 20, 701, 17
_ARRAY_OF: Final = {_INT8: 1016, _FLOAT8: 1022, _BYTEA: 1001}
"""Type numbers of an element and of its array; they are the same in every PostgreSQL."""


@dataclass(frozen=True, slots=True)
class BinaryArray:
    """An array as PostgreSQL's `array_recv` reads it; give it to a ``%b`` parameter.

    Parameters
    ----------
    element : int
        Type number of the elements.
    data : bytes
        Number of dimensions, whether there are nulls, element type, length, lower bound; then for each
        element its length and its bytes, most significant first.
    """

    element: int
    data: bytes


def integers(values: Any) -> BinaryArray:
    """Return whole numbers as ``bigint[]``."""
    return _lay_out(_INT8, np.asarray(values, np.int64).astype(">i8"))


def floats(values: Any) -> BinaryArray:
    """Return numbers as ``double precision[]``."""
    return _lay_out(_FLOAT8, np.asarray(values, np.float64).astype(">f8"))


def octets(values: NDArray[np.void]) -> BinaryArray:
    """Return records of one size, byte for byte, as ``bytea[]``."""
    size = values.dtype.itemsize
    return _lay_out(_BYTEA, np.ascontiguousarray(values).view(np.dtype(f"V{size}")))


def _lay_out(element: int, values: NDArray[Any]) -> BinaryArray:
    head = np.array([1, 0, element, len(values), 1] if len(values) else [0, 0, element], ">i4")
    body = np.empty(len(values), np.dtype([("size", ">i4"), ("value", values.dtype)]))
    body["size"], body["value"] = values.dtype.itemsize, values
    return BinaryArray(element, head.tobytes() + body.tobytes())


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def __init__(self, cls: type, context: AdaptContext | None = None, element: int = _INT8) -> None:
        super().__init__(cls, context)
        self.oid = _ARRAY_OF[element]

    def get_key(self, obj: BinaryArray, format: PyFormat) -> Any:
        return self.cls, obj.element

    def upgrade(self, obj: BinaryArray, format: PyFormat) -> Dumper:
        return _ArrayDumper(self.cls, None, obj.element)

    def dump(self, obj: BinaryArray) -> bytes:
        return obj.data


def register(connection: psycopg.Connection[Any]) -> None:
    """Let a connection take `BinaryArray` parameters."""
    connection.adapters.register_dumper(BinaryArray, _ArrayDumper)
