"""Export to TFLite: `python -m training.export_tflite --forecaster DIR --out FILE [--dynamic-range FILE]`.

Builtin operators only, any batch size, one signature with input `window` and outputs `direction` and
`quantiles`, as in the ONNX file. The LSTM is a loop: TFLite's fused LSTM needs a fixed batch size and keeps
its state between calls. The dynamic-range file has INT8 weights.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.child_process import module_command
from training.conversion import (
    ExportedModel,
    Wanted,
    convert,
    converter_arguments,
    load_for_conversion,
)

CONVERTER = module_command("training.export_tflite")


def export_tflite(
    forecaster_dir: Path,
    out: Path,
    windows: np.ndarray,
    *,
    dynamic_range: bool = False,
    timeout: float = 600.0,
    converter: Sequence[str] = CONVERTER,
) -> ExportedModel:
    """Export a trained forecaster to TFLite, in a child process, and publish the files that prove good.

    Parameters
    ----------
    forecaster_dir
        Folder of the trained forecaster.
    out
        File to write, such as ``model.tflite``; the dynamic-range file lies beside it as
        ``model.dynamic.tflite``.
    windows
        (n, window, F) raw features of real bars, finite, to compare with the Keras model on.
    dynamic_range
        Whether to make the dynamic-range file too; it is judged as the INT8 ONNX file is.
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
    if dynamic_range:
        wanted.append(Wanted("dynamic-range", out.with_suffix(".dynamic.tflite"), quantised=True))
    return convert(converter, Path(forecaster_dir), windows, wanted, timeout=timeout)


def main(arguments: list[str] | None = None) -> None:
    """Child process: convert and write, without judging."""
    given = converter_arguments("training.export_tflite", ("out", "dynamic-range")).parse_args(arguments)
    import tensorflow as tf

    from training.inference_graph import inference_function

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
        path.write_bytes(converter.convert())


if __name__ == "__main__":
    main()
