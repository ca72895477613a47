"""The optimizer of a training run and the course of its learning rate."""

from __future__ import annotations

from typing import Any

from training.config import ForecasterConfig
from training.network.backend import keras

WARM_UP_SHARE = 0.1
FINAL_RATE_SHARE = 0.02


def make_optimizer(config: ForecasterConfig, steps_per_epoch: int) -> Any:
    """Adam with warm-up and cosine decay; the rate depends on the step count alone."""
    total = config.epochs * steps_per_epoch
    warm_up = max(1, int(WARM_UP_SHARE * total))
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=config.learning_rate * FINAL_RATE_SHARE,
        warmup_target=config.learning_rate,
        warmup_steps=warm_up,
        decay_steps=max(1, total - warm_up),
        alpha=FINAL_RATE_SHARE,
    )
    optimizer = keras.optimizers.Adam(rate)
    return (
        keras.optimizers.LossScaleOptimizer(optimizer) if config.precision == "mixed_float16" else optimizer
    )
