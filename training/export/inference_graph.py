"""The forecaster as a lean inference function: what is exported instead of the Keras graph.

It computes the same outputs as :func:`training.network.model.build_model` does at inference, with the weights as
constants and less to do: they are folded (`training.export.folded_weights`), products are two-dimensional, and
dropout is gone. Standardising and the scaling by
volatility stay inside, so that a consumer feeds raw features, and so does the calibration.

A window that holds a NaN or an infinity gets NaN in all of its outputs, on every runtime, and leaves the
other windows of the batch alone. Without the guard, clipping and ReLU would turn a NaN into an ordinary
number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from training.export.folded_weights import FoldedWeights, Linear, fold_weights
from training.network.forecaster_files import ForecasterMeta

INPUT_NAME = "window"
OUTPUT_NAMES = ("direction", "quantiles", "volatility")

Recurrence = Literal["keras", "while"]
Recur = Callable[[Any], Any]
"""An LSTM: (batch, window, width) to its final hidden state (batch, units)."""


def inference_function(model: Any, meta: ForecasterMeta, recurrence: Recurrence) -> Any:
    """Build the inference function of a forecaster.

    Parameters
    ----------
    model
        Forecaster in float32, as `load_forecaster` returns it.
    meta
        Its description.
    recurrence
        Form of the LSTM: ``"keras"`` is what tf2onnx turns into one ONNX `LSTM` operator, ``"while"`` a plain
        loop that TFLite runs with builtin operators and any batch size.

    Returns
    -------
    tf.function
        Maps `window` (batch, window, F) float32 to ``{"direction": (batch, 3), "quantiles": (batch, Q),
        "volatility": (batch, 1)}``.
    """
    import tensorflow as tf

    weights = fold_weights(model, meta)
    shape = (None, meta.config.window, len(meta.feature_names))
    recur = _keras_lstm(weights) if recurrence == "keras" else _while_lstm(weights)

    def infer(window: Any) -> dict[str, Any]:
        # A sum is finite only if all of its terms are. Bad windows go on as zeros: in a quantised graph, whose
        # scales are taken at run time, a NaN is undefined. The conditions are as plain as
        # they are because tf2onnx writes most others as `c * x + (1 - c) * y`, which keeps the NaN in x.
        total = tf.reduce_sum(window, axis=[1, 2], keepdims=True)
        usable = tf.math.is_finite(total)
        window = tf.where(tf.math.is_nan(total), tf.zeros_like(window), window)
        window = tf.where(tf.math.is_inf(total), tf.zeros_like(window), window)
        said = network(_standardise(window, usable, meta), weights, meta, recur)
        scale = _horizon_volatility(window, meta)
        usable = usable[:, :, 0]
        return {
            "direction": tf.where(usable, said["direction"], math.nan),
            "quantiles": tf.where(usable, said["quantiles"] * scale, math.nan),
            "volatility": tf.where(usable, said["volatility"] * scale, math.nan),
        }

    signature = [tf.TensorSpec(shape, tf.float32, name=INPUT_NAME)]
    return tf.function(infer, input_signature=signature, autograph=False)


def network(standard: Any, weights: FoldedWeights, meta: ForecasterMeta, recur: Recur) -> dict[str, Any]:
    """Standardised (batch, window, F) to the outputs, quantiles and volatility in units of the horizon volatility."""
    import tensorflow as tf

    from training.network.model import MAX_LOG_RATIO

    heads = (weights.direction, weights.quantile_raw, weights.volatility_raw)
    joined = Linear(
        np.concatenate([head.weight for head in heads], axis=1), np.concatenate([head.bias for head in heads])
    )
    h = tf.nn.relu(_linear(recur(_attend(standard, weights, meta)), weights.hidden))
    raw = _head(h, standard[:, -1], joined)  # one product instead of three: faster, and smaller files
    logits, quantiles, ratio = tf.split(raw, [len(head.bias) for head in heads], axis=1)
    return {
        "direction": tf.nn.softmax(logits),
        "quantiles": _quantiles(quantiles, meta),
        "volatility": tf.exp(tf.clip_by_value(ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO))
        * meta.calibration.volatility_factor,
    }


def constant(array: np.ndarray) -> Any:
    """A float32 constant of the graph."""
    import tensorflow as tf

    return tf.constant(np.asarray(array, np.float32))


def _linear(x: Any, layer: Linear) -> Any:
    import tensorflow as tf

    return tf.nn.bias_add(tf.matmul(x, constant(layer.weight)), constant(layer.bias))


def _head(hidden: Any, newest: Any, layer: Linear) -> Any:
    """Linear layer over (batch, units) of the network and (batch, F) standardised features of the newest bar.

    The second part is a sum of products, which the INT8 conversion leaves alone: its inputs reach to ±`clip`, most
    of them stay within ±2, and one scale for all of them would round the answers.
    """
    import tensorflow as tf

    units = hidden.shape[-1]
    deep = _linear(hidden, Linear(layer.weight[:units], layer.bias))
    return deep + tf.reduce_sum(newest[:, :, None] * constant(layer.weight[units:][None]), axis=1)


def _standardise(window: Any, usable: Any, meta: ForecasterMeta) -> Any:
    """(batch, window, F) raw to standardised; `usable` (batch, 1, 1) bool.

    Rounded as Keras rounds it, because the network amplifies: one unit in the last place here is some 1e-6 in
    the answers. So the statistics are not folded into `project`, and the divisor is made to depend on the
    input: TensorFlow would turn division by a constant into multiplication by its rounded reciprocal.
    """
    import tensorflow as tf

    statistics = meta.normalisation
    mean, std = np.asarray(statistics.mean, np.float32), np.asarray(statistics.std, np.float32)
    scaled = (window - constant(mean)) / tf.where(usable, constant(std), 1.0)
    return tf.clip_by_value(scaled, -statistics.clip, statistics.clip)


def _attend(x: Any, weights: FoldedWeights, meta: ForecasterMeta) -> Any:
    """Standardised (batch, window, F) to the LSTM's input (batch, window, width), through all blocks."""
    import tensorflow as tf

    from training.network.sequences import causal_mask

    config = meta.config
    split = (-1, config.window, config.heads, config.width // config.heads)
    x = tf.matmul(tf.reshape(x, (-1, len(meta.feature_names))), constant(weights.project))
    x = tf.reshape(x, (-1, config.window, config.width)) + constant(weights.positions[None])
    x = tf.reshape(x, (-1, config.width))  # (batch * window, width): two-dimensional products are fused
    for block in weights.blocks:
        query, key, value = (
            tf.transpose(tf.reshape(_linear(x, layer), split), (0, 2, 1, 3))
            for layer in (block.query, block.key, block.value)
        )
        scores = tf.matmul(query, key, transpose_b=True)
        if config.targets == "every":
            scores += constant(causal_mask(config.window))
        mixed = tf.matmul(tf.nn.softmax(scores), value)
        mixed = tf.reshape(tf.transpose(mixed, (0, 2, 1, 3)), (-1, config.width))
        x = x + _linear(mixed, block.output)
        x = x + _linear(tf.nn.relu(_linear(x, block.expand)), block.contract)
    return tf.reshape(x, (-1, config.window, config.width))


def _quantiles(raw: Any, meta: ForecasterMeta) -> Any:
    """(batch, Q) raw to rising quantiles in units of volatility; see `MonotoneQuantiles`.

    A sum of products instead of a matrix product, which the INT8 conversion would quantise.
    """
    import tensorflow as tf

    from training.network.model import quantile_mixing

    parts = tf.concat([raw[:, :1], tf.nn.softplus(raw[:, 1:])], axis=-1)
    mixing = quantile_mixing(raw.shape[-1], meta.calibration.step_scales)
    return tf.reduce_sum(parts[:, :, None] * constant(mixing[None]), axis=1)


def _horizon_volatility(window: Any, meta: ForecasterMeta) -> Any:
    """(batch, window, F) raw to (batch, 1): the volatility of the last bar over the horizon."""
    index = meta.volatility_index
    return window[:, -1, index : index + 1] * math.sqrt(meta.config.horizon)


def _keras_lstm(weights: FoldedWeights) -> Any:
    """Keras' own layer: tf2onnx knows its graph by sight."""
    from training.network.backend import keras

    units = weights.lstm_recurrent.shape[0]
    layer = keras.layers.LSTM(units, dtype="float32", use_cudnn=False)
    layer.build((None, *weights.positions.shape))
    layer.set_weights([weights.lstm_input.weight, weights.lstm_recurrent, weights.lstm_input.bias])
    return layer


def _while_lstm(weights: FoldedWeights) -> Any:
    """LSTM as a loop over the window, final hidden state (batch, units)."""
    import tensorflow as tf

    steps, units = weights.positions.shape[0], weights.lstm_recurrent.shape[0]

    def recur(x: Any) -> Any:
        by_step = tf.TensorArray(tf.float32, steps).unstack(tf.transpose(x, (1, 0, 2)))
        zeros = tf.zeros((tf.shape(x)[0], units))

        def step(t: Any, hidden: Any, cell: Any) -> tuple[Any, Any, Any]:
            gates = _linear(by_step.read(t), weights.lstm_input)
            gates += tf.matmul(hidden, constant(weights.lstm_recurrent))
            enter, keep, candidate, leave = tf.split(gates, 4, axis=-1)
            cell = tf.sigmoid(keep) * cell + tf.sigmoid(enter) * tf.tanh(candidate)
            return t + 1, tf.sigmoid(leave) * tf.tanh(cell), cell

        return tf.while_loop(lambda t, hidden, cell: t < steps, step, (0, zeros, zeros))[1]

    return recur
