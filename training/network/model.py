"""The Transformer-LSTM: raw feature windows in, direction probabilities, return quantiles and volatility out.

Input `window` (batch, window, F) float32, raw features in the order of the training set. Everything a
consumer would otherwise have to repeat is inside the graph: standardising with the statistics of the training
span, and turning volatility-scaled outputs into returns and log-return figures. Layer names are fixed:
exporters read weights by them.

Per block k (BatchNorm is folded into the next linear layer at export)::

    x = x + attention(block{k}_attention_norm(x))
    x = x + ff_contract(relu(ff_expand(block{k}_ff_norm(x))))

The heads are linear in the network's answer and, beside it, the standardised features of the newest bar: what a
logistic regression would find is found at once, and the network learns what is beyond it.

Attention has no causal mask, since the whole window is past, unless every bar of a window is a target
(`ForecasterConfig.targets`, training/network/sequences.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from training.config import CLASSES, Calibration, ForecasterConfig, Normalisation, Precision
from training.network.backend import keras, layers, ops
from training.network.sequences import CausalAttention, LastBar

MAX_LOG_RATIO = 3.0
"""The forecast volatility is at most exp(this), about 20, times the one known at t, and at least 1 / 20 of it."""

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

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer; without this Keras refuses to save one that was given a policy object."""
        return dict(super().get_config())


@keras.saving.register_keras_serializable("klinecast")
class MonotoneQuantiles(layers.Layer):
    """Quantiles that cannot cross, in volatilities: (raw[0], softplus(raw[1:])) @ `quantile_mixing`."""

    def __init__(self, step_scales: Sequence[float] = (), **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.step_scales = tuple(step_scales)

    def call(self, raw: Any) -> Any:
        """(..., Q) raw outputs to (..., Q) rising quantiles."""
        parts = ops.concatenate([raw[..., :1], ops.softplus(raw[..., 1:])], axis=-1)
        return ops.matmul(parts, quantile_mixing(raw.shape[-1], self.step_scales))

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        return {**super().get_config(), "step_scales": self.step_scales}


@keras.saving.register_keras_serializable("klinecast")
class HorizonVolatility(layers.Layer):
    """Volatility over the horizon from the raw window: feature `index` of a bar times `scale`."""

    def __init__(self, index: int, scale: float, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.index, self.scale = int(index), float(scale)

    def call(self, window: Any) -> Any:
        """(..., F) to (..., 1)."""
        return window[..., self.index : self.index + 1] * self.scale

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        return {**super().get_config(), "index": self.index, "scale": self.scale}


@keras.saving.register_keras_serializable("klinecast")
class LogRatio(layers.Layer):
    """Logarithm of the forecast over the present volatility: raw, cut to +-`MAX_LOG_RATIO`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, raw: Any) -> Any:
        """(batch, 1) to (batch, 1)."""
        return ops.clip(raw, -MAX_LOG_RATIO, MAX_LOG_RATIO)


@keras.saving.register_keras_serializable("klinecast")
class TimesExp(layers.Layer):
    """exp(first) * second * `factor`."""

    def __init__(self, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.factor = float(factor)

    def call(self, inputs: Any) -> Any:
        """Two arrays (batch, 1) to one."""
        exponent, unit = inputs
        return ops.exp(exponent) * (unit * self.factor)

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("klinecast")
class TemperedSoftmax(layers.Layer):
    """softmax(logits / `temperature`)."""

    def __init__(self, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.temperature = float(temperature)

    def call(self, logits: Any) -> Any:
        """(..., C) to probabilities of the same shape."""
        return ops.softmax(logits / self.temperature)

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        return {**super().get_config(), "temperature": self.temperature}


def anchor(n_quantiles: int) -> int:
    """Position of the middle quantile, which is predicted directly; the others are steps away from it."""
    return n_quantiles // 2


def quantile_mixing(n_quantiles: int, step_scales: Sequence[float] = ()) -> np.ndarray:
    """Constant (Q, Q) float32 matrix M with ``quantiles = [raw_0, softplus(raw_1), ...] @ M``.

    Row 0 puts the anchor into every quantile; row j >= 1 is a positive step, taken downwards by all quantiles
    below the anchor from its place on, or upwards by those above. Step j lies between the quantiles j - 1 and
    j and is stretched by ``step_scales[j - 1]``, if there are any.
    """
    middle = anchor(n_quantiles)
    mixing = np.zeros((n_quantiles, n_quantiles), np.float32)
    mixing[0] = 1
    for step in range(1, n_quantiles):
        if step <= middle:
            mixing[step, :step] = -1
        else:
            mixing[step, step:] = 1
    if step_scales:
        mixing[1:] *= np.asarray(step_scales, np.float32)[:, None]
    return mixing


def raw_quantiles_at_start(quantiles: tuple[float, ...]) -> list[float]:
    """Biases that make the untrained head predict the quantiles of a standard normal."""
    normal = [NormalDist().inv_cdf(q) for q in quantiles]
    steps = [math.log(math.expm1(high - low)) for low, high in pairwise(normal)]
    return [normal[anchor(len(quantiles))], *steps]


def _block(x: Any, k: int, config: ForecasterConfig, dtype: Any) -> Any:
    heads, head_width = config.heads, config.width // config.heads
    h = layers.BatchNormalization(**_NORM, dtype=dtype, name=f"block{k}_attention_norm")(x)
    if config.targets == "every":
        h = CausalAttention(heads, head_width, dtype=dtype, name=f"block{k}_attention")(h)
    else:
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
    calibration: Calibration | None = None,
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
    calibration
        Corrections of the outputs; by default none, as in training.

    Returns
    -------
    keras.Model
        Input `window` (batch, window, F) float32; outputs ``{"direction": (batch, 3) probabilities of down,
        flat, up, "quantiles": (batch, Q) log-return quantiles over the horizon, "volatility": (batch, 1)
        realised volatility over the horizon, a log-return figure}``, float32.
    """
    if len(normalisation.mean) != n_features or not 0 <= volatility_index < n_features:
        raise ValueError(
            f"{n_features} features, {len(normalisation.mean)} means, volatility at {volatility_index}"
        )
    dtype = keras.DTypePolicy(precision)
    window = keras.Input((config.window, n_features), dtype="float32", name="window")
    mean, std = list(normalisation.mean), list(normalisation.std)
    standard = Standardise(mean, std, normalisation.clip, name="standardise")(window)
    x = layers.Dense(config.width, dtype=dtype, name="project")(standard)
    x = layers.BatchNormalization(**_NORM, dtype=dtype, name="project_norm")(x)
    x = Positions(dtype=dtype, name="positions")(x)
    for k in range(config.blocks):
        x = _block(x, k, config, dtype)
    x = layers.BatchNormalization(**_NORM, dtype=dtype, name="lstm_norm")(x)
    every = config.targets == "every"  # then all below is per bar, and the last bar is taken at the end
    x = layers.LSTM(config.lstm_units, return_sequences=every, use_cudnn=False, dtype=dtype, name="lstm")(x)
    x = layers.BatchNormalization(**_NORM, dtype=dtype, name="head_norm")(x)
    x = layers.Dense(config.hidden, activation="relu", dtype=dtype, name="head_hidden")(x)
    x = layers.Dropout(config.dropout, dtype=dtype, name="head_dropout")(x)
    # What the newest bar says plainly need not find its way through the layers: they learn what is beyond it.
    newest = standard if every else LastBar(name="newest_features")(standard)
    x = layers.Concatenate(dtype="float32", name="head_input")([x, newest])
    flat: dict[str, Any] = {"kernel_initializer": "zeros", "dtype": "float32"}
    logits = layers.Dense(len(CLASSES), **flat, name="direction_logits")(x)
    calibration = calibration or Calibration()
    direction = TemperedSoftmax(calibration.temperature, name="direction")(logits)
    start = keras.initializers.Constant(raw_quantiles_at_start(config.quantiles))
    raw = layers.Dense(len(config.quantiles), bias_initializer=start, **flat, name="quantile_raw")(x)
    scaled = MonotoneQuantiles(calibration.step_scales, name="scaled_quantiles")(raw)
    bars = window if every else LastBar(name="last_bar")(window)
    scale = HorizonVolatility(volatility_index, math.sqrt(config.horizon), name="horizon_volatility")(bars)
    quantiles = layers.Multiply(dtype="float32", name="quantiles")([scaled, scale])
    raw_ratio = layers.Dense(1, **flat, name="volatility_raw")(x)
    ratio = LogRatio(name="log_volatility_ratio")(raw_ratio)
    volatility = TimesExp(calibration.volatility_factor, name="volatility")([ratio, scale])
    outputs = {"direction": direction, "quantiles": quantiles, "volatility": volatility}
    if every:
        outputs = {name: LastBar(name=f"last_{name}")(output) for name, output in outputs.items()}
    return keras.Model(window, outputs, name="forecaster")


def training_heads(model: Any) -> Any:
    """The same network (shared weights) with the outputs that losses are taken of.

    Returns
    -------
    keras.Model
        Outputs ``{"direction_logits": (batch, 3), "scaled_quantiles": (batch, Q), "log_volatility_ratio":
        (batch, 1)}``, each (batch, window, ...) if every bar is a target; the latter two relative to the
        volatility known at t, so that quiet and wild markets weigh the same.
    """
    names = ("direction_logits", "scaled_quantiles", "log_volatility_ratio")
    return keras.Model(model.input, {name: model.get_layer(name).output for name in names}, name="training")
