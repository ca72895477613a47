"""Export to ONNX: `python -m training.export_onnx --forecaster DIR --out FILE [--int8 FILE]`.

The graph has one input, `window` (batch, window, F) float32 of raw features, and the outputs `direction`
(batch, 3) and `quantiles` (batch, Q). Opset 17: the newest that tf2onnx writes. INT8 is dynamic quantisation
with unsigned weights: signed ones saturate on CPUs with AVX2 but without VNNI, and static quantisation leaves
the LSTM out. Its scales are taken over the whole batch at run time, so that an answer depends, a little, on
the other windows in the call.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from training.child_process import module_command
from training.conversion import (
    ExportedModel,
    Wanted,
    convert,
    converter_arguments,
    load_for_conversion,
)

OPSET = 17
CONVERTER = module_command("training.export_onnx")


def export_onnx(
    forecaster_dir: Path,
    out: Path,
    windows: np.ndarray,
    *,
    int8: bool = True,
    timeout: float = 600.0,
    converter: Sequence[str] = CONVERTER,
) -> ExportedModel:
    """Export a trained forecaster to ONNX, in a child process, and publish the files that prove good.

    Parameters
    ----------
    forecaster_dir
        Folder of the trained forecaster.
    out
        File to write, such as ``model.onnx``; the INT8 file lies beside it as ``model.int8.onnx``.
    windows
        (n, window, F) raw features of real bars, finite, to compare with the Keras model on; see
        :func:`training.reference_outputs.real_windows`.
    int8
        Whether to quantise too. An INT8 file that agrees with the Keras model on less than 99 % of the
        windows is reported, but not published.
    timeout
        Seconds for each child process.
    converter
        Command of the converter.

    Raises
    ------
    ExportError, ParityError
        See :func:`training.conversion.convert`; nothing was published.
    """
    out = Path(out)
    wanted = [Wanted("out", out, quantised=False)]
    if int8:
        wanted.append(Wanted("int8", out.with_suffix(".int8.onnx"), quantised=True))
    return convert(converter, Path(forecaster_dir), windows, wanted, timeout=timeout)


def main(arguments: list[str] | None = None) -> None:
    """Child process: convert and write, without judging."""
    given = converter_arguments("training.export_onnx", ("out", "int8")).parse_args(arguments)
    import onnx
    import tf2onnx

    from training.inference_graph import inference_function

    logging.disable(logging.WARNING)
    model, meta = load_for_conversion(given.forecaster, given.windows)
    function = inference_function(model, meta, "keras")
    graph, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    if given.int8 is not None:
        _write(_quantised(graph), given.int8)
    _canonical(graph)
    onnx.checker.check_model(graph, full_check=True)
    _write(graph, given.out)


def _quantised(graph: Any) -> Any:
    """INT8 form of an ONNX model, weights unsigned, activations quantised at run time."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory(prefix="klinecast-") as folder:
        source, prepared, done = (
            Path(folder) / name for name in ("float.onnx", "prepared.onnx", "int8.onnx")
        )
        onnx.save(graph, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)  # shapes are known; it would need sympy
        quantize_dynamic(prepared, done, weight_type=QuantType.QUInt8)
        quantised = onnx.load(done)
    _canonical(quantised)
    return quantised


def _canonical(model: Any) -> None:
    """Order nodes and constants by their use, name values by number and the first axis `batch`.

    The order of tf2onnx differs from run to run; the file must not. And the names of TensorFlow's scopes are a
    quarter of a small INT8 file, and nobody reads them.
    """
    graph = model.graph
    nodes = _by_use(graph)
    boundary = {value.name for value in (*graph.input, *graph.output)}
    number: dict[str, int] = {}

    def name(value: str) -> str:
        if not value or value in boundary:
            return value
        return f"v{number.setdefault(value, len(number))}"

    for node in nodes:
        for field in ("name", "doc_string") if node.domain else ("name", "doc_string", "domain"):
            node.ClearField(field)  # an empty text that is set takes other bytes than one that is not
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        node.ClearField("attribute")
        node.attribute.extend(attributes)
        node.input[:] = [name(value) for value in node.input]
        node.output[:] = [name(value) for value in node.output]
    constants = sorted(
        (constant for constant in graph.initializer if constant.name in number),
        key=lambda constant: number[constant.name],
    )
    for constant in constants:
        constant.name = name(constant.name)
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    graph.name, graph.doc_string = "forecaster", ""
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _by_use(graph: Any) -> list[Any]:
    """Nodes in the order in which the outputs, from the first to the last, come to need them."""
    maker = {output: i for i, node in enumerate(graph.node) for output in node.output}
    order: list[int] = []
    seen: set[int] = set()
    todo = [(maker[value.name], False) for value in reversed(graph.output)]
    while todo:
        i, ready = todo.pop()
        if ready:
            order.append(i)
        elif i not in seen:
            seen.add(i)
            todo.append((i, True))
            todo += [(maker[value], False) for value in reversed(graph.node[i].input) if value in maker]
    return [graph.node[i] for i in order]


def _write(model: Any, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
