"""Export to ONNX: `python -m training.export.export_onnx --forecaster DIR --out FILE [--int8 FILE --calibration FILE]`.

The graph has one input, `window` (batch, window, F) float32 of raw features, and the outputs of
`training.export.inference_graph`. Opset 17: the newest that tf2onnx writes. The INT8 file has INT8 weights and
float32 activations, see `training.export.weight_quantisation`; it answers each window independently of the others,
as the float file does.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from training.export.conversion import (
    converter_arguments,
    load_calibration,
    load_for_conversion,
)

OPSET = 17


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
