"""Training on sequences: every bar of a window is a target, not only the last.

A window of W bars then teaches W times in one pass. That is honest only if the answer at a bar depends on no
later bar, so attention is causal: a constant mask of `FUTURE` is added to the scores of later bars. The mask
is -20 and not -1e9, because an INT8 conversion that has to represent -1e9 loses everything else. e^-20 is
2e-9: what a later bar contributes is below the rounding of float32, as long as its score is not larger by
more than a few units; `tests/training/test_sequences.py` changes later bars and looks.

The exported graph carries the mask too (training/export/inference_graph.py). It answers for the last bar only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from training.config import ForecasterConfig
from training.data.targets import NO_TARGET
from training.data.training_set import Batch, TrainingSet
from training.fitting.batches import TargetFunction, last_bar_targets
from training.network.backend import keras, layers, ops

FUTURE = -20.0
"""Added to the attention score of a bar that lies in the future."""


def causal_mask(window: int) -> np.ndarray:
    """(window, window) float32, row: the bar that asks; `FUTURE` where the other bar is later, else 0."""
    return np.triu(np.full((window, window), FUTURE, np.float32), 1)


@keras.saving.register_keras_serializable("klinecast")
class CausalAttention(layers.Layer):
    """Multi-head self-attention with the additive causal mask.

    Weights have the shapes and the order of Keras' `MultiHeadAttention`, so that exporters read both alike:
    kernel and bias of query, key, value (width, heads, head width), then of the output.
    """

    def __init__(self, heads: int, head_width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.head_width = int(heads), int(head_width)

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights for inputs of (batch, window, width)."""
        self.window, width = int(shape[1] or 0), shape[2]
        inner = (self.heads, self.head_width)
        self.projections = []
        for name in ("query", "key", "value"):
            kernel = self.add_weight(
                shape=(width, *inner), initializer="glorot_uniform", name=f"{name}_kernel"
            )
            self.projections.append(
                (kernel, self.add_weight(shape=inner, initializer="zeros", name=f"{name}_bias"))
            )
        self.out_kernel = self.add_weight(
            shape=(*inner, width), initializer="glorot_uniform", name="out_kernel"
        )
        self.out_bias = self.add_weight(shape=(width,), initializer="zeros", name="out_bias")

    def call(self, x: Any) -> Any:
        """(batch, window, width) to the same shape; the softmax is computed in float32."""
        query, key, value = (
            ops.einsum("bwc,chd->bhwd", x, ops.cast(kernel, x.dtype))
            + ops.expand_dims(ops.cast(bias, x.dtype), 1)
            for kernel, bias in self.projections
        )
        scores = ops.matmul(query / math.sqrt(self.head_width), ops.swapaxes(key, -1, -2))
        weights = ops.softmax(ops.cast(scores, "float32") + causal_mask(self.window))
        mixed = ops.matmul(ops.cast(weights, x.dtype), value)
        out = ops.einsum("bhwd,hdc->bwc", mixed, ops.cast(self.out_kernel, x.dtype))
        return out + ops.cast(self.out_bias, x.dtype)

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        return {**super().get_config(), "heads": self.heads, "head_width": self.head_width}


@keras.saving.register_keras_serializable("klinecast")
class LastBar(layers.Layer):
    """The answer at the last bar: (batch, window, n) to (batch, n)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, x: Any) -> Any:
        """Take the last bar."""
        return x[:, -1]


def every_bar_targets(data: TrainingSet, batch: Batch) -> dict[str, np.ndarray]:
    """Targets of all bars of the windows, gathered through views of the target arrays.

    Returns
    -------
    dict
        `direction_logits` (n, window) int32, -1 where a bar has no target; `scaled_quantiles` and
        `log_volatility_ratio` (n, window, 1) float32, NaN there. Bars before the first training row have
        none: they belong to what lies before the split.
    """
    window = data.manifest.config.window
    start, symbol = batch.rows[:, 0] - (window - 1), batch.rows[:, 1]

    def gathered(array: np.ndarray) -> np.ndarray:
        return sliding_window_view(array, window, axis=0)[start, symbol]

    direction = gathered(data.direction).astype(np.int32)
    bars = start[:, None] + np.arange(window)
    known = (direction != NO_TARGET) & (bars >= data.rows["train"][0, 0])
    volatility = np.where(known, gathered(data.volatility), np.float32(np.nan))
    ratio = np.log(gathered(data.realised_volatility) / volatility)
    return {
        "direction_logits": np.where(known, direction, np.int32(NO_TARGET)),
        "scaled_quantiles": (gathered(data.log_return) / volatility)[:, :, None],
        "log_volatility_ratio": ratio[:, :, None],
    }


def only_last_bar_targets(data: TrainingSet, batch: Batch) -> dict[str, np.ndarray]:
    """Targets shaped like those of `every_bar_targets`, with that of the last bar alone: what is judged."""
    window, n = data.manifest.config.window, len(batch.rows)
    outcomes = batch.outcomes
    direction = np.full((n, window), NO_TARGET, np.int32)
    scaled, ratio = np.full((2, n, window, 1), np.nan, np.float32)
    direction[:, -1] = outcomes.direction
    scaled[:, -1, 0], ratio[:, -1, 0] = outcomes.scaled, outcomes.log_volatility_ratio
    return {"direction_logits": direction, "scaled_quantiles": scaled, "log_volatility_ratio": ratio}


def target_functions(config: ForecasterConfig) -> tuple[TargetFunction, TargetFunction]:
    """What is learned from a batch, and what is judged after an epoch."""
    if config.targets == "every":
        return every_bar_targets, only_last_bar_targets
    return last_bar_targets, last_bar_targets


def direction_loss(y_true: Any, logits: Any) -> Any:
    """Cross-entropy (n, window) of the bars that have a target, 0 at the others; its mean is theirs."""
    y_true = ops.cast(y_true, "int32")
    known = ops.cast(y_true >= 0, "float32")
    loss = keras.losses.sparse_categorical_crossentropy(ops.maximum(y_true, 0), logits, from_logits=True)
    return known * loss / _share(known)


def of_known_bars(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Let a loss of numbers (n, window, 1) pass over bars without a target (NaN); its mean is the others'."""

    def of_known(y_true: Any, y_pred: Any) -> Any:
        given = ops.logical_not(ops.isnan(y_true))
        known = ops.cast(given[..., 0], "float32")
        return known * loss(ops.where(given, y_true, 0.0), y_pred) / _share(known)

    of_known.__name__ = getattr(loss, "__name__", "loss")
    return of_known


def _share(known: Any) -> Any:
    return ops.maximum(ops.mean(known), 1e-6)  # 1e-6: a batch without any target costs nothing, not NaN
