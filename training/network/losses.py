"""What training minimises, one loss per head; all are of the order 1, since targets are relative to volatility.

- direction: cross-entropy of down, flat, up;
- quantiles: pinball loss (Koenker & Bassett 1978) of the return in units of the volatility known at t;
- volatility: squared error of its logarithm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from training.config import ForecasterConfig
from training.network.backend import keras
from training.network.sequences import direction_loss, of_known_bars


def losses(config: ForecasterConfig) -> dict[str, Any]:
    """Losses by the names of the outputs of :func:`training.network.model.training_heads`; their sum is minimised."""
    if config.targets == "every":
        return {
            "direction_logits": direction_loss,
            "scaled_quantiles": of_known_bars(pinball_loss(config.quantiles)),
            "log_volatility_ratio": of_known_bars(volatility_loss),
        }
    return {
        "direction_logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "scaled_quantiles": pinball_loss(config.quantiles),
        "log_volatility_ratio": volatility_loss,
    }


def pinball_loss(quantiles: tuple[float, ...]) -> Callable[[Any, Any], Any]:
    """Pinball loss max(q * e, (q - 1) * e), e = y - prediction, of (n, 1) outcomes and (n, Q) predictions."""
    levels = np.asarray(quantiles, np.float32)

    def pinball(y_true: Any, y_pred: Any) -> Any:
        error = keras.ops.cast(y_true, "float32") - keras.ops.cast(y_pred, "float32")
        return keras.ops.mean(keras.ops.maximum(levels * error, (levels - 1) * error), axis=-1)

    return pinball


def volatility_loss(y_true: Any, y_pred: Any) -> Any:
    """Squared error of the log volatility ratio (n, 1), 0 where there is no outcome (NaN)."""
    y_true, y_pred = keras.ops.cast(y_true, "float32"), keras.ops.cast(y_pred, "float32")
    known = keras.ops.logical_not(keras.ops.isnan(y_true))
    error = keras.ops.where(known, y_true, 0.0) - y_pred
    return keras.ops.mean(keras.ops.where(known, error**2, 0.0), axis=-1)
