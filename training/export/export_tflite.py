"""Export to TFLite: `python -m training.export.export_tflite --forecaster DIR --out FILE`, `--dynamic-range`, `--int8`.

Builtin operators only, any batch size, the input and outputs of the ONNX file. The LSTM is a loop: TFLite's fused LSTM
needs a fixed batch size and keeps its state between calls. Of the dynamic-range file only the weights are INT8; the
INT8 file computes in integers from the standardised features to the raw outputs, see
`training.export.integer_graph`. All three are written by `training.export.tflite_files`, without names of inner values.
"""

from __future__ import annotations

import logging

from training.export.conversion import (
    converter_arguments,
    load_calibration,
    load_for_conversion,
)


def main(arguments: list[str] | None = None) -> None:
    """Child process: convert and write, without judging."""
    options = ("out", "dynamic-range", "int8")
    given = converter_arguments("training.export.export_tflite", options).parse_args(arguments)
    import tensorflow as tf

    from training.export.folded_weights import fold_weights
    from training.export.inference_graph import inference_function
    from training.export.integer_graph import integer_file
    from training.export.tflite_files import compact, read_model

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
        path.write_bytes(compact(read_model(converter.convert())))
    if given.int8 is not None:
        calibration = load_calibration(given.calibration, meta)
        given.int8.write_bytes(integer_file(fold_weights(model, meta), meta, calibration))


if __name__ == "__main__":
    main()
