"""Writing TFLite files small: equal parts are stored once, and what no runtime reads is left out.

A TFLite file is a FlatBuffer, in which every value inside the model has a description of its own. Many are
alike: where two are, both may point to one. Left out are the names of inner values, descriptions of buffers
that hold nothing, and what the converter says of itself. Names of the signature stay.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"


def read_model(content: bytes) -> Any:
    """Return the `ModelT` of a file's content."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def compact(model: Any) -> bytes:
    """Write a `ModelT`, which is changed, as the content of a file."""
    _leave_out(model)
    builder = _SharingBuilder()
    model.buffers = _once_each(model.buffers)
    model.operatorCodes = _once_each(model.operatorCodes)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.quantization = _once(tensor.quantization)
        for operator in graph.operators:
            operator.builtinOptions = _once(operator.builtinOptions)
        graph.tensors = _once_each(graph.tensors)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _leave_out(model: Any) -> None:
    """Drop names, unused buffers and notes; values that are computed all have buffer 0, which is empty."""
    model.description = model.metadata = model.metadataBuffer = None
    kept: list[Any] = [schema.BufferT()]
    places: dict[bytes, int] = {}
    for graph in model.subgraphs:
        graph.name = None
        for tensor in graph.tensors:
            tensor.name = None
            data = model.buffers[tensor.buffer].data
            if data is None:
                tensor.buffer = 0
                continue
            content = np.asarray(data, np.uint8)
            tensor.buffer = places.setdefault(content.tobytes(), len(kept))
            if tensor.buffer == len(kept):
                kept.append(schema.BufferT(data=content))
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None
        for operator in graph.operators:
            for name in ("mutatingVariableInputs", "intermediates"):
                if not len(getattr(operator, name) if getattr(operator, name) is not None else ()):
                    setattr(operator, name, None)
    model.buffers = kept


class _SharingBuilder(schema.flatbuffers.Builder):
    """A FlatBuffer in which equal vectors and strings, and parts wrapped by `_once`, are stored once."""

    def __init__(self) -> None:
        super().__init__(1 << 16)
        self.written: dict[Hashable, int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
        """Store a vector, or find it stored."""
        return self.stored(
            (x.dtype.str, x.tobytes()), lambda: super(_SharingBuilder, self).CreateNumpyVector(x)
        )

    def CreateString(self, s: Any, *arguments: Any) -> int:  # noqa: N802
        """Store a string, or find it stored."""
        return self.stored(("string", s), lambda: super(_SharingBuilder, self).CreateString(s, *arguments))

    def stored(self, key: Hashable, store: Any) -> int:
        """Where the part with this key lies; it is stored if it is not yet."""
        if key not in self.written:
            self.written[key] = store()
        return self.written[key]


class _once:  # noqa: N801
    """A part of a model that is packed once, with all that are equal to it."""

    def __new__(cls, part: Any) -> Any:
        return None if part is None else super().__new__(cls)

    def __init__(self, part: Any) -> None:
        self.part = part

    def Pack(self, builder: _SharingBuilder) -> int:  # noqa: N802
        """Pack the part, or find an equal one."""
        return builder.stored(_contents(self.part), lambda: self.part.Pack(builder))


def _once_each(parts: list[Any]) -> list[Any]:
    return [_once(part) for part in parts]


def _contents(value: Any) -> Hashable:
    """Something equal for equal parts."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tobytes()
    if isinstance(value, _once):
        return _contents(value.part)
    if isinstance(value, (list, tuple)):
        return tuple(_contents(entry) for entry in value)
    if hasattr(value, "__dict__"):
        return type(value).__name__, *((name, _contents(entry)) for name, entry in vars(value).items())
    return value
