"""Arithmetic of a training step, counted from the sizes of the model, and what devices can do at best."""

from __future__ import annotations

from training.config import CLASSES, ForecasterConfig

BACKWARD_AND_FORWARD = 3
"""A backward pass multiplies twice for each product of the forward pass: by the weights, and by the inputs."""

PEAK_TFLOPS: dict[str, dict[str, float]] = {
    # Dense figures of NVIDIA's data sheets. "float32" is what float32 products are computed in by default: TF32
    # tensor cores where there are any (TensorFlow and JAX alike), else plain float32.
    "H200": {"float32": 494.5, "mixed_bfloat16": 989.5, "mixed_float16": 989.5},
    "H100": {"float32": 494.5, "mixed_bfloat16": 989.5, "mixed_float16": 989.5},
    "A100": {"float32": 156.0, "mixed_bfloat16": 312.0, "mixed_float16": 312.0},
    "L40S": {"float32": 183.0, "mixed_bfloat16": 362.0, "mixed_float16": 362.0},
    "L4": {"float32": 60.0, "mixed_bfloat16": 121.0, "mixed_float16": 121.0},
    "V100": {"float32": 15.7, "mixed_float16": 125.0},
    "T4": {"float32": 8.1, "mixed_float16": 65.0},
}


def forward_flops(config: ForecasterConfig, features: int) -> int:
    """Floating point operations of one window's forward pass: two per multiply-add of every matrix product.

    With W bars, F features, width d, feed-forward width f, u LSTM units, H hidden units and O outputs::

        project      W F d
        each block   4 W d^2  (query, key, value, output)  +  2 W^2 d  (scores, mixing)  +  2 W d f
        LSTM         4 W u (d + u)
        heads        u H + (H + F) O

    Whatever is done element by element (norms, softmax, gates, losses) is not counted.
    """
    W, d, f, u = config.window, config.width, config.ff, config.lstm_units
    block = 4 * W * d * d + 2 * W * W * d + 2 * W * d * f
    outputs = len(CLASSES) + len(config.quantiles) + 1
    head = u * config.hidden + (config.hidden + features) * outputs
    return 2 * (W * features * d + config.blocks * block + 4 * W * u * (d + u) + head)


def training_flops(config: ForecasterConfig, features: int) -> int:
    """Operations of one window's training step."""
    return BACKWARD_AND_FORWARD * forward_flops(config, features)


def peak_flops(device: str, precision: str) -> float | None:
    """Operations per second that a device of this name could do; None if it is not known."""
    for name in sorted(PEAK_TFLOPS, key=len, reverse=True):  # L40S before L4
        if name in device.upper():
            peak = PEAK_TFLOPS[name].get(precision)
            return peak * 1e12 if peak else None
    return None
