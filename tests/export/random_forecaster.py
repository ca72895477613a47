"""Make a small forecaster of random weights, with its answers: python random_forecaster.py DIR WINDOWS.npy.

Run as a process, so that the tests themselves stay without TensorFlow. Nothing in it is neutral: BatchNorms
have seen data, biases are not zero, the outputs are calibrated, so that a mistake in folding shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from training.config import Calibration, ForecasterConfig, Normalisation
from training.data.splits import SPLITS, SplitSpan
from training.export import parity
from training.network.backend import keras
from training.network.forecaster_files import ForecasterMeta, save_forecaster
from training.network.model import build_model

FEATURES = ("log_return_1", "realised_vol_30", "close_in_range", "volume_ratio_20", "hour_sin")
CONFIG = ForecasterConfig(window=16, horizon=4, width=16, heads=2, blocks=2, lstm_units=32, ff=32, hidden=16)
CALIBRATION = Calibration(temperature=1.4, step_scales=(0.7, 1.2), volatility_factor=1.1, rows=400)
NORMALISATION = Normalisation(mean=(0.0, 0.004, 50.0, 1.0, 0.0), std=(0.004, 0.002, 28.0, 0.8, 0.7))


def _spread_directions(model: keras.Model, rng: np.random.Generator) -> None:
    """Make every class the most probable one for some windows."""
    mean, std = np.asarray(NORMALISATION.mean), np.asarray(NORMALISATION.std)
    windows = (mean + std * rng.normal(size=(500, CONFIG.window, len(FEATURES)))).astype(np.float32)
    head = model.get_layer("direction_logits")
    logits = np.asarray(keras.Model(model.input, head.output)(windows))
    factor = 0.35 / logits.std(axis=0)
    weight, bias = head.get_weights()
    head.set_weights([weight * factor, (bias - logits.mean(axis=0)) * factor])


def main(folder: Path) -> None:
    keras.utils.set_random_seed(7)
    rng = np.random.default_rng(7)
    index = FEATURES.index("realised_vol_30")
    model = build_model(CONFIG, len(FEATURES), NORMALISATION, volatility_index=index)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            scale, variance = rng.uniform(0.6, 1.4, n), rng.uniform(0.4, 2.0, n)
            layer.set_weights([scale, rng.normal(0, 0.3, n), rng.normal(0, 0.5, n), variance])
        elif layer.get_weights():
            layer.set_weights([w + rng.normal(0, 0.05, w.shape) for w in layer.get_weights()])
    _spread_directions(model, rng)
    span = SplitSpan(
        rows=1,
        first_feature_time=0,
        first_open_time=900_000,
        last_open_time=900_000,
        last_label_time=4_500_000,
    )
    meta = ForecasterMeta(
        config=CONFIG,
        feature_names=FEATURES,
        volatility_feature="realised_vol_30",
        normalisation=NORMALISATION,
        interval="15m",
        symbols=("BTCUSDT", "ETHUSDT"),
        spans=dict.fromkeys(SPLITS, span),
        training_set_id="none",
        run_id="none",
        history=(),
        best_epoch=0,
        environment={"keras": keras.__version__},
        weights_sha256="",
        calibration=CALIBRATION,
    )
    save_forecaster(model, meta, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    parity.main(["--forecaster", sys.argv[1], "--windows", sys.argv[2]])
