"""The Transformer-LSTM: raw feature windows in, direction probabilities and return quantiles out.

Input `window` (batch, window, F) float32, raw features in the order of the training set. Everything a
consumer would otherwise have to repeat is inside the graph: standardising with the statistics of the training
span, and turning volatility-scaled quantiles into returns. Layer names are fixed: exporters read weights by
them.

Per block k (BatchNorm is folded into the next linear layer at export)::

    x = x + attention(block{k}_attention_norm(x))
    x = x + ff_contract(relu(ff_expand(block{k}_ff_norm(x))))

Attention has no causal mask: the whole window is past.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from training.backend import keras, layers, ops
from training.config import CLASSES, ForecasterConfig, Normalisation, Precision

_NORM = {"momentum": 0.95, "epsilon": 1e-3}  # 0.95: the running averages settle within one short epoch


@keras.saving.register_keras_serializable("klinecast")
class Standardise(layers.Layer):
    """clip((x - mean) / std, -clip, clip) in float32, with constants instead of weights."""

    def __init__(self, mean: list[float], std: list[float], clip: float, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.mean, self.std, self.clip = list(mean), list(std), float(clip)

    def call(self, x: Any) -> Any:
        """Standardise (..., F)."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return ops.clip((x - mean) / std, -self.clip, self.clip)

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        return {**super().get_config(), "mean": self.mean, "std": self.std, "clip": self.clip}


@keras.saving.register_keras_serializable("klinecast")
class Positions(layers.Layer):
    """x + a learned vector per position in the window (weight (window, width))."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weight for inputs of (batch, window, width)."""
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.table = self.add_weight(shape=shape[1:], initializer=start, name="table")

    def call(self, x: Any) -> Any:
        """Add the positions."""
        return x + ops.cast(self.table, x.dtype)


@keras.saving.register_keras_serializable("klinecast")
class MonotoneQuantiles(layers.Layer):
    """Quantiles that cannot cross, in volatilities: (raw[0], softplus(raw[1:])) @ `quantile_mixing`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, raw: Any) -> Any:
        """(batch, Q) raw outputs to (batch, Q) rising quantiles."""
        parts = ops.concatenate([raw[:, :1], ops.softplus(raw[:, 1:])], axis=-1)
        return ops.matmul(parts, quantile_mixing(raw.shape[-1]))


@keras.saving.register_keras_serializable("klinecast")
class HorizonVolatility(layers.Layer):
    """Volatility over the horizon from the raw window: feature `index` of its last bar times `scale`."""

    def __init__(self, index: int, scale: float, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.index, self.scale = int(index), float(scale)

    def call(self, window: Any) -> Any:
        """(batch, window, F) to (batch, 1)."""
        return window[:, -1, self.index : self.index + 1] * self.scale

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        return {**super().get_config(), "index": self.index, "scale": self.scale}


def anchor(n_quantiles: int) -> int:
    """Position of the middle quantile, which is predicted directly; the others are steps away from it."""
    return n_quantiles // 2


def quantile_mixing(n_quantiles: int) -> np.ndarray:
    """Constant (Q, Q) float32 matrix M with ``quantiles = [raw_0, softplus(raw_1), ...] @ M``.

    Row 0 puts the anchor into every quantile; row j >= 1 is a positive step, taken downwards by all quantiles
    below the anchor from its place on, or upwards by those above.
    """
    middle = anchor(n_quantiles)
    mixing = np.zeros((n_quantiles, n_quantiles), np.float32)
    mixing[0] = 1
    for step in range(1, n_quantiles):
        if step <= middle:
            mixing[step, :step] = -1
        else:
            mixing[step, step:] = 1
    return mixing


def _raw_quantiles_at_start(quantiles: tuple[float, ...]) -> list[float]:
    """Biases that make the untrained head predict the quantiles of a standard normal."""
    normal = [NormalDist().inv_cdf(q) for q in quantiles]
    steps = [math.log(math.expm1(high - low)) for low, high in pairwise(normal)]
    return [normal[anchor(len(quantiles))], *steps]


def _block(x: Any, k: int, config: ForecasterConfig, dtype: Any) -> Any:
    heads, head_width = config.heads, config.width // config.heads
    h = layers.BatchNormalization(**_NORM, dtype=dtype, name=f"block{k}_attention_norm")(x)
    h = layers.MultiHeadAttention(heads, head_width, dtype=dtype, name=f"block{k}_attention")(h, h)
    h = layers.Dropout(config.dropout, dtype=dtype, name=f"block{k}_attention_dropout")(h)
    x = layers.Add(dtype=dtype, name=f"block{k}_attention_add")([x, h])
    h = layers.BatchNormalization(**_NORM, dtype=dtype, name=f"block{k}_ff_norm")(x)
    h = layers.Dense(config.ff, activation="relu", dtype=dtype, name=f"block{k}_ff_expand")(h)
    h = layers.Dense(config.width, dtype=dtype, name=f"block{k}_ff_contract")(h)
    h = layers.Dropout(config.dropout, dtype=dtype, name=f"block{k}_ff_dropout")(h)
    return layers.Add(dtype=dtype, name=f"block{k}_ff_add")([x, h])


def build_model(
    config: ForecasterConfig,
    n_features: int,
    normalisation: Normalisation,
    *,
    volatility_index: int,
    precision: Precision = "float32",
) -> Any:
    """Build the forecaster with fresh weights (set the seed before, with ``keras.utils.set_random_seed``).

    Parameters
    ----------
    config
        Sizes, horizon, quantiles.
    n_features
        F, the number of features in a window.
    normalisation
        Statistics of the training span, one mean and standard deviation per feature.
    volatility_index
        Position of the realised volatility (standard deviation of 1-bar log returns) among the features.
    precision
        Computation of the inner layers; weights and outputs are float32 in any case, so a model trained in
        mixed precision is loaded in float32 for export.

    Returns
    -------
    keras.Model
        Input `window` (batch, window, F) float32; outputs ``{"direction": (batch, 3) probabilities of down,
        flat, up, "quantiles": (batch, Q) log-return quantiles over the horizon}``, float32.
    """
    if len(normalisation.mean) != n_features or not 0 <= volatility_index < n_features:
        raise ValueError(
            f"{n_features} features, {len(normalisation.mean)} means, volatility at {volatility_index}"
        )
    dtype = keras.DTypePolicy(precision)
    window = keras.Input((config.window, n_features), dtype="float32", name="window")
    mean, std = list(normalisation.mean), list(normalisation.std)
    x = Standardise(mean, std, normalisation.clip, name="standardise")(window)
    x = layers.Dense(config.width, dtype=dtype, name="project")(x)
    x = layers.BatchNormalization(**_NORM, dtype=dtype, name="project_norm")(x)
    x = Positions(dtype=dtype, name="positions")(x)
    for k in range(config.blocks):
        x = _block(x, k, config, dtype)
    x = layers.BatchNormalization(**_NORM, dtype=dtype, name="lstm_norm")(x)
    x = layers.LSTM(config.lstm_units, use_cudnn=False, dtype=dtype, name="lstm")(x)
    x = layers.BatchNormalization(**_NORM, dtype=dtype, name="head_norm")(x)
    x = layers.Dense(config.hidden, activation="relu", dtype=dtype, name="head_hidden")(x)
    x = layers.Dropout(config.dropout, dtype=dtype, name="head_dropout")(x)
    logits = layers.Dense(len(CLASSES), dtype="float32", name="direction_logits")(x)
    direction = layers.Softmax(dtype="float32", name="direction")(logits)
    start = keras.initializers.Constant(_raw_quantiles_at_start(config.quantiles))
    raw = layers.Dense(len(config.quantiles), bias_initializer=start, dtype="float32", name="quantile_raw")(x)
    scaled = MonotoneQuantiles(name="scaled_quantiles")(raw)
    scale = HorizonVolatility(volatility_index, math.sqrt(config.horizon), name="horizon_volatility")(window)
    quantiles = layers.Multiply(dtype="float32", name="quantiles")([scaled, scale])
    return keras.Model(window, {"direction": direction, "quantiles": quantiles}, name="forecaster")


def training_heads(model: Any) -> Any:
    """The same network (shared weights) with the outputs that losses are taken of.

    Returns
    -------
    keras.Model
        Outputs ``{"direction_logits": (batch, 3), "scaled_quantiles": (batch, Q)}``; the second in units of
        the volatility over the horizon, so that quiet and wild markets weigh the same.
    """
    names = ("direction_logits", "scaled_quantiles")
    return keras.Model(model.input, {name: model.get_layer(name).output for name in names}, name="training")
