"""A TFLite graph under construction: values, constants, operators.

A `Value` carries what it is on the calibration windows; whoever adds an operator computes in NumPy what it gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}
LEVELS = 32767
"""The largest 16-bit integer that is used, as its negative is."""
_OLDEST_PLACE = 127
"""Operators beyond this number do not fit into the field that old readers look at."""


@dataclass(frozen=True)
class Value:
    """A value of the graph."""

    index: int
    data: np.ndarray
    """(n, ...) what it is on the calibration windows, float32, of integers what they mean; or a constant's content."""
    scale: float | None = None
    """What one integer more means; None for a value that is no quantised integer."""


class Model:
    """A TFLite model of several graphs."""

    def __init__(self) -> None:
        self.packed = schema.ModelT(
            version=3, operatorCodes=[], subgraphs=[], buffers=[schema.BufferT()], signatureDefs=[]
        )

    def operator_code(self, name: str, version: int) -> int:
        """Position of an operator's code, which is added if it is new; it has the highest version that is used."""
        number = getattr(schema.BuiltinOperator, name)
        codes = self.packed.operatorCodes
        for at, code in enumerate(codes):
            if code.builtinCode == number:
                code.version = max(code.version, version)
                return at
        old = min(number, _OLDEST_PLACE)
        codes.append(schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=old, version=version))
        return len(codes) - 1

    def sign(self, graph: Graph, inputs: dict[str, Value], outputs: dict[str, Value]) -> None:
        """Give the inputs and outputs of the main graph the names that users call them by."""

        def named(values: dict[str, Value]) -> list[Any]:
            return [schema.TensorMapT(name=name, tensorIndex=value.index) for name, value in values.items()]

        graph.close([*inputs.values()], [*outputs.values()])
        for value in (*inputs.values(), *outputs.values()):
            tensor = graph.packed.tensors[value.index]
            tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)
        self.packed.signatureDefs.append(
            schema.SignatureDefT(inputs=named(inputs), outputs=named(outputs), signatureKey="serving_default")
        )


class Graph:
    """One graph of a model, under construction."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.packed = schema.SubGraphT(tensors=[], operators=[])
        self.constants: dict[Any, Value] = {}
        self.position = len(model.packed.subgraphs)
        model.packed.subgraphs.append(self.packed)

    def close(self, inputs: list[Value], outputs: list[Value]) -> None:
        """Say what goes in and comes out."""
        self.packed.inputs = np.array([value.index for value in inputs], np.int32)
        self.packed.outputs = np.array([value.index for value in outputs], np.int32)

    def given(self, data: np.ndarray, *, scale: float | None = None) -> Value:
        """An input; float32, int32, or int16 with a scale."""
        return self._computed(data, scale)

    def constant(self, content: np.ndarray) -> Value:
        """A constant of float32 or int32; an equal one is the same value."""
        content = np.asarray(content)
        content = content.astype(np.float32 if content.dtype.kind == "f" else np.int32)
        key = (content.dtype, content.shape, content.tobytes())
        if key not in self.constants:
            self.constants[key] = self.stored(content)
        return self.constants[key]

    def stored(self, content: np.ndarray, scale: float | None = None) -> Value:
        """A constant stored as it is; with a scale, integers that mean scale * content."""
        buffers = self.model.packed.buffers
        buffers.append(schema.BufferT(data=np.frombuffer(content.tobytes(), np.uint8)))
        return Value(self._tensor(content.shape, content.dtype, scale, len(buffers) - 1), content, scale)

    def run(
        self,
        name: str,
        inputs: list[Value | None],
        data: np.ndarray,
        scale: float | None = None,
        options: Any = None,
        version: int = 1,
    ) -> Value:
        """Add an operator with one output, `data`; see `run_many`."""
        return self.run_many(name, inputs, [data], [scale], options, version)[0]

    def run_many(
        self,
        name: str,
        inputs: list[Value | None],
        data: list[np.ndarray],
        scales: list[float | None],
        options: Any = None,
        version: int = 1,
    ) -> list[Value]:
        """Add an operator; `data` is what it gives on the calibration windows."""
        outputs = [self._computed(*output) for output in zip(data, scales, strict=True)]
        kind = type(options).__name__.removesuffix("T") if options is not None else "NONE"
        self.packed.operators.append(
            schema.OperatorT(
                opcodeIndex=self.model.operator_code(name, version),
                inputs=np.array([-1 if value is None else value.index for value in inputs], np.int32),
                outputs=np.array([value.index for value in outputs], np.int32),
                builtinOptionsType=getattr(schema.BuiltinOptions, kind),
                builtinOptions=options,
            )
        )
        return outputs

    def _computed(self, data: np.ndarray, scale: float | None) -> Value:
        """A value that is computed, rounded as the runtime will round it; its batch is 1 in the file."""
        if scale is not None:
            data = (np.clip(np.round(data / scale), -LEVELS, LEVELS) * scale).astype(np.float32)
        dtype = np.dtype(np.int16) if scale is not None else data.dtype
        return Value(self._tensor((1, *data.shape[1:]) if data.ndim else (), dtype, scale), data, scale)

    def _tensor(self, shape: tuple[int, ...], dtype: np.dtype, scale: float | None, buffer: int = 0) -> int:
        quantised = None
        if scale is not None:
            quantised = schema.QuantizationParametersT(
                scale=np.array([scale], np.float32), zeroPoint=np.array([0], np.int64)
            )
        self.packed.tensors.append(
            schema.TensorT(
                shape=np.array(shape, np.int32),
                type=_TYPES[np.dtype(dtype)],
                buffer=buffer,
                quantization=quantised,
            )
        )
        return len(self.packed.tensors) - 1
