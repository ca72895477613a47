"""The forecaster as a function that can be computed in integers alone: the core of the full INT8 export.

It begins with standardised features in steps of `training.export.int8_interface` and ends with probabilities and
multiples of the volatility, because raw features and log returns do not fit into 256 levels of one scale.
The LSTM is annotated so that the TFLite converter makes one operator of it, with 16-bit cell state; a loop of
8-bit operators loses too much. That operator needs a fixed batch and keeps its state between calls: whoever
runs the file resets it (`Interpreter.reset_all_variables`) before each.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from training.export.inference_graph import (
    INPUT_NAME,
    FoldedWeights,
    Linear,
    constant,
    fold_weights,
    network,
)
from training.export.int8_interface import Int8Interface, Int8Output, feature_steps
from training.network.forecaster_files import ForecasterMeta

BATCH = 1


def integer_model(model: Any, meta: ForecasterMeta, calibration: np.ndarray) -> tuple[bytes, Int8Interface]:
    """Convert a forecaster to a TFLite file of integer operators, int8 in and out.

    Parameters
    ----------
    model, meta
        As `load_forecaster` returns them.
    calibration
        (n, window, F) raw windows of the training split: the ranges of all values are taken from them.

    Returns
    -------
    The file's bytes, and how it takes and gives numbers.
    """
    import tensorflow as tf

    statistics = meta.normalisation
    mean, std = np.asarray(statistics.mean, np.float32), np.asarray(statistics.std, np.float32)
    standardised = np.clip((calibration - mean) / std, -statistics.clip, statistics.clip)
    steps = feature_steps(standardised)
    given = (standardised / steps).astype(np.float32)

    def examples() -> Iterator[list[np.ndarray]]:
        for k in range(0, len(given) - BATCH + 1, BATCH):
            yield [given[k : k + BATCH]]

    module = tf.Module()
    module.infer = _integer_function(fold_weights(model, meta), meta, steps)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.infer.get_concrete_function()], module
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = examples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    # A scale per column makes a small file a sixth larger and changes the agreement by less than chance does.
    converter._experimental_disable_per_channel = True
    converted = converter.convert()
    return converted, _interface(converted, meta, mean, std * steps)


def _integer_function(weights: FoldedWeights, meta: ForecasterMeta, steps: np.ndarray) -> Any:
    """(1, window, F) in steps to the outputs, quantiles and volatility in units of the horizon volatility."""
    import tensorflow as tf

    weights = _fed_with_steps(weights, steps)

    def infer(window: Any) -> dict[str, Any]:
        return network(window, weights, meta, lambda x: _fused_lstm(x, weights))

    shape = (BATCH, meta.config.window, len(meta.feature_names))
    signature = [tf.TensorSpec(shape, tf.float32, name=INPUT_NAME)]
    return tf.function(infer, input_signature=signature, autograph=False)


def _fed_with_steps(weights: FoldedWeights, steps: np.ndarray) -> FoldedWeights:
    """Weights that undo the division by `steps`, wherever features come in."""
    units = weights.hidden.weight.shape[1]

    def head(layer: Linear) -> Linear:
        deep, newest = layer.weight[:units], layer.weight[units:]
        return Linear(np.concatenate([deep, newest * steps[: len(newest), None]]), layer.bias)

    return replace(
        weights,
        project=weights.project * steps[:, None],
        direction=head(weights.direction),
        quantile_raw=head(weights.quantile_raw),
        volatility_raw=head(weights.volatility_raw),
    )


def _fused_lstm(x: Any, weights: FoldedWeights) -> Any:
    """Final hidden state (1, units); the annotated function is what the converter knows an LSTM by."""
    import tensorflow as tf

    def lstm(x: Any, hidden: Any, cell: Any, kernel: Any, recurrent: Any, bias: Any) -> tuple[Any, ...]:
        by_step = tf.TensorArray(tf.float32, x.shape[1]).unstack(tf.transpose(x, (1, 0, 2)))

        def step(t: Any, hidden: Any, cell: Any) -> tuple[Any, Any, Any]:
            gates = tf.matmul(by_step.read(t), kernel) + tf.matmul(hidden, recurrent) + bias
            enter, keep, candidate, leave = tf.split(gates, 4, axis=-1)
            cell = tf.sigmoid(keep) * cell + tf.sigmoid(enter) * tf.tanh(candidate)
            return t + 1, tf.sigmoid(leave) * tf.tanh(cell), cell

        loop = tf.while_loop(lambda t, hidden, cell: t < x.shape[1], step, (0, hidden, cell))
        return loop[1], tf.expand_dims(loop[1], 1), loop[1], loop[2], tf.constant(0.0)

    annotation = {"api_implements": f"lstm_{uuid.UUID(int=0)}", "time_major": False, "go_backwards": False}
    fused = tf.function(lstm, autograph=False, experimental_attributes=annotation)
    zeros = tf.zeros((BATCH, weights.lstm_recurrent.shape[0]))
    layer = weights.lstm_input
    state = fused(
        x, zeros, zeros, constant(layer.weight), constant(weights.lstm_recurrent), constant(layer.bias)
    )
    return state[0]


def _interface(file: bytes, meta: ForecasterMeta, mean: np.ndarray, step: np.ndarray) -> Int8Interface:
    """Read the scales that the converter chose."""
    from ai_edge_litert.interpreter import Interpreter

    signature = Interpreter(model_content=file).get_signature_runner()
    (taken,) = signature.get_input_details().values()
    scale, zero_point = taken["quantization"]
    outputs = {name: given["quantization"] for name, given in signature.get_output_details().items()}
    return Int8Interface(
        batch=BATCH,
        mean=tuple(map(float, mean)),
        step=tuple(float(size * scale) for size in step),
        zero_point=int(zero_point),
        outputs={
            name: Int8Output(scale=float(factor), zero_point=int(zero))
            for name, (factor, zero) in outputs.items()
        },
        volatility_index=meta.volatility_index,
        volatility_factor=math.sqrt(meta.config.horizon),
    )
