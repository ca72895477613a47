"""A plain LSTM: the windows, losses, optimizer and patience of the forecaster, but neither attention nor BatchNorm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from training.baselines.protocol import Floats, Predict, Rows, Said, said_of_probability
from training.config import CLASSES, ForecasterConfig
from training.data.dataset import evenly
from training.data.training_set import TrainingSet, row_order
from training.fitting.batches import WindowBatches
from training.network.backend import keras, layers
from training.network.losses import losses
from training.network.model import MonotoneQuantiles, Standardise, raw_quantiles_at_start
from training.network.optimizer import make_optimizer

PREDICT_ROWS = 2048


def plain_lstm(data: TrainingSet, *, seed: int) -> Predict:
    """Train it, and keep the weights of the epoch with the least validation loss."""
    config = data.manifest.config.model_copy(update={"targets": "last", "precision": "float32", "seed": seed})
    keras.utils.set_random_seed(seed)
    network = _network(data, config)
    batch = min(config.batch_size, len(data.rows["train"]))
    steps = len(data.rows["train"]) // batch
    network.compile(
        optimizer=make_optimizer(config, steps), loss=losses(config), jit_compile=False, auto_scale_loss=False
    )
    _train(network, data, config, batch, steps)

    def predict(rows: Rows) -> Said:
        parts = [
            network.predict_on_batch(data.windows(rows[start : start + PREDICT_ROWS]))
            for start in range(0, len(rows), PREDICT_ROWS)
        ]
        logits, scaled, ratio = (
            np.concatenate([np.asarray(part[name], np.float64) for part in parts])
            for name in ("direction_logits", "scaled_quantiles", "log_volatility_ratio")
        )
        known = data.volatility[rows[:, 0], rows[:, 1]].astype(np.float64)
        return said_of_probability(
            _softmax(logits), quantiles=known[:, None] * scaled, volatility=known * np.exp(ratio[:, 0])
        )

    return predict


def _network(data: TrainingSet, config: ForecasterConfig) -> Any:
    normalisation = data.manifest.normalisation
    window = keras.Input((config.window, len(data.feature_names)), dtype="float32")
    x = Standardise(list(normalisation.mean), list(normalisation.std), normalisation.clip)(window)
    x = layers.LSTM(config.lstm_units, use_cudnn=False)(x)
    x = layers.Dropout(config.dropout)(x)
    start = keras.initializers.Constant(raw_quantiles_at_start(config.quantiles))
    raw = layers.Dense(len(config.quantiles), bias_initializer=start)(x)
    outputs = {
        "direction_logits": layers.Dense(len(CLASSES), name="direction_logits")(x),
        "scaled_quantiles": MonotoneQuantiles(name="scaled_quantiles")(raw),
        "log_volatility_ratio": layers.Dense(1, kernel_initializer="zeros", name="log_volatility_ratio")(x),
    }
    return keras.Model(window, outputs)


def _train(network: Any, data: TrainingSet, config: ForecasterConfig, batch: int, steps: int) -> None:
    kept = evenly(len(data.rows["validation"]), config.validation_windows, config.seed)
    best, best_weights, best_epoch = math.inf, network.get_weights(), 0
    for epoch in range(1, config.epochs + 1):
        order = row_order(len(data.rows["train"]), shuffle=True, seed=(config.seed, epoch))[: steps * batch]
        with WindowBatches(data, "train", order, batch) as batches:
            network.fit(batches.as_input(), shuffle=False, verbose=0)
        with WindowBatches(data, "validation", kept, 4 * batch) as unseen:
            loss = float(network.evaluate(unseen.as_input(), verbose=0, return_dict=True)["loss"])
        if loss < best:
            best, best_weights, best_epoch = loss, network.get_weights(), epoch
        elif epoch - best_epoch >= config.patience:
            break
    network.set_weights(best_weights)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
