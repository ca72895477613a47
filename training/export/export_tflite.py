"""Export to TFLite: `python -m training.export.export_tflite --forecaster DIR --out FILE`, `--dynamic-range`, `--int8`.

Builtin operators only. The float file and the dynamic-range file, whose weights are INT8, take any batch size and
have the input and outputs of the ONNX file; their LSTM is a loop: TFLite's fused LSTM needs a fixed batch size
and keeps its state between calls. The INT8 file is made of integers throughout, its input and outputs too:
`training.export.int8_interface` says what they mean.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.child_process import module_command
from training.export.conversion import (
    ExportedModel,
    Wanted,
    convert,
    converter_arguments,
    interface_path,
    load_calibration,
    load_for_conversion,
)

CONVERTER = module_command("training.export.export_tflite")


def export_tflite(
    forecaster_dir: Path,
    out: Path,
    windows: np.ndarray,
    *,
    calibration: np.ndarray | None = None,
    timeout: float = 600.0,
    converter: Sequence[str] = CONVERTER,
) -> ExportedModel:
    """Export a trained forecaster to TFLite, in a child process, and publish the files that prove good.

    Parameters
    ----------
    forecaster_dir
        Folder of the trained forecaster.
    out
        File to write, such as ``model.tflite``; beside it lie the dynamic-range file ``model.dynamic.tflite``
        and the INT8 file ``model.int8.tflite``.
    windows
        (n, window, F) raw features of real bars, finite, to compare with the Keras model on.
    calibration
        (n, window, F) windows of the training split, the representative set; without them only the float file
        is made. A quantised file that agrees with the Keras model on less than 99 % of `windows` is reported,
        but not published.
    timeout
        Seconds for each child process.
    converter
        Command of the converter.

    Raises
    ------
    ExportError, ParityError
        See :func:`training.export.conversion.convert`; nothing was published.
    """
    out = Path(out)
    wanted = [Wanted("out", out, quantised=False)]
    if calibration is not None:
        wanted += [
            Wanted("dynamic-range", out.with_suffix(".dynamic.tflite"), quantised=True),
            Wanted("int8", out.with_suffix(".int8.tflite"), quantised=True),
        ]
    return convert(converter, Path(forecaster_dir), windows, wanted, calibration=calibration, timeout=timeout)


def main(arguments: list[str] | None = None) -> None:
    """Child process: convert and write, without judging."""
    options = ("out", "dynamic-range", "int8")
    given = converter_arguments("training.export.export_tflite", options).parse_args(arguments)
    import tensorflow as tf

    from training.export.inference_graph import inference_function
    from training.export.integer_graph import integer_model

    logging.disable(logging.WARNING)
    model, meta = load_for_conversion(given.forecaster, given.windows)
    module = tf.Module()
    module.infer = inference_function(model, meta, "while")
    for path, optimizations in ((given.out, []), (given.dynamic_range, [tf.lite.Optimize.DEFAULT])):
        if path is None:
            continue
        concrete = module.infer.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
        converter.optimizations = optimizations
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        path.write_bytes(_without_names(converter.convert()))
    if given.int8 is not None:
        converted, interface = integer_model(model, meta, load_calibration(given.calibration, meta))
        given.int8.write_bytes(_without_names(converted))
        interface_path(given.int8).write_text(interface.model_dump_json())


def _without_names(model: bytes) -> bytes:
    """Empty the names of inner values, which nobody reads; those of the signature stay."""
    from tensorflow.lite.tools import flatbuffer_utils

    opened = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    for graph in opened.subgraphs:
        graph.name = None
        for tensor in graph.tensors:
            tensor.name = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(opened))


if __name__ == "__main__":
    main()
