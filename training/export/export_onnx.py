"""Export to ONNX: `python -m training.export.export_onnx --forecaster DIR --out FILE [--int8 FILE --calibration FILE]`.

The graph has one input, `window` (batch, window, F) float32 of raw features, and the outputs of
`training.export.inference_graph`. Opset 17: the newest that tf2onnx writes. The INT8 file has INT8 weights and
float32 activations, see `training.export.weight_quantisation`; it answers each window independently of the others,
as the float file does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.child_process import module_command
from training.export.conversion import (
    ExportedModel,
    Wanted,
    convert,
    converter_arguments,
    load_calibration,
    load_for_conversion,
)

OPSET = 17
CONVERTER = module_command("training.export.export_onnx")


def export_onnx(
    forecaster_dir: Path,
    out: Path,
    windows: np.ndarray,
    *,
    calibration: np.ndarray | None = None,
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
        :func:`training.export.reference_outputs.real_windows`.
    calibration
        (n, window, F) windows of the training split, to quantise with; without them no INT8 file is made. An
        INT8 file that agrees with the Keras model on less than 99 % of `windows` is reported, but not
        published.
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
        wanted.append(Wanted("int8", out.with_suffix(".int8.onnx"), quantised=True))
    return convert(converter, Path(forecaster_dir), windows, wanted, calibration=calibration, timeout=timeout)


def main(arguments: list[str] | None = None) -> None:
    """Child process: convert and write, without judging."""
    given = converter_arguments("training.export.export_onnx", ("out", "int8")).parse_args(arguments)
    import onnx
    import tf2onnx

    from training.export.inference_graph import inference_function
    from training.export.onnx_tidying import canonical, simplify
    from training.export.weight_quantisation import quantise_weights

    logging.disable(logging.WARNING)
    model, meta = load_for_conversion(given.forecaster, given.windows)
    function = inference_function(model, meta, "keras")
    graph, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    simplify(graph)
    canonical(graph)
    onnx.checker.check_model(graph, full_check=True)
    if given.int8 is not None:
        quantised = quantise_weights(graph, load_calibration(given.calibration, meta))
        canonical(quantised)
        onnx.checker.check_model(quantised, full_check=True)
        _write(quantised, given.int8)
    _write(graph, given.out)


def _write(model: Any, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
