"""The scripts that measure training do run, at a tiny size, and count what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.training import gpu, steps
from benchmarks.training.flops import forward_flops, peak_flops, training_flops
from training.config import ForecasterConfig, Normalisation
from training.network.backend import limit_threads
from training.network.model import build_model


@pytest.fixture(autouse=True, scope="module")
def _known_threads() -> None:
    """Left to itself, TensorFlow would choose; later tests of this process compare with runs in another one."""
    limit_threads()


def test_operations_are_those_of_the_weights_and_the_attention() -> None:
    """Counted a second time: every entry of a kernel is used once per bar, or once in the layers after the LSTM."""
    config = ForecasterConfig(window=12, width=16, heads=4, blocks=2, lstm_units=24, ff=20, hidden=10)
    model = build_model(
        config, 7, Normalisation(mean=(0.0,) * 7, std=(1.0,) * 7), volatility_index=0, precision="float32"
    )
    products = 0
    for weight in model.trainable_weights:
        if weight.path.endswith("kernel"):
            once = any(name in weight.path for name in ("head_hidden", "logits", "_raw"))
            products += math.prod(weight.shape) * (1 if once else config.window)
    attention = config.blocks * 2 * config.window**2 * config.width
    assert forward_flops(config, 7) == 2 * (products + attention)
    assert training_flops(config, 7) == 3 * forward_flops(config, 7)


def test_peaks_belong_to_their_device() -> None:
    assert peak_flops("NVIDIA H200", "mixed_bfloat16") == 989.5e12
    assert peak_flops("NVIDIA L40S", "float32") == 183e12 != peak_flops("NVIDIA L4", "float32")
    assert peak_flops("Tesla V100", "mixed_bfloat16") is None is peak_flops("cpu", "float32")


def test_a_naive_and_a_prefetched_run_learn_the_same() -> None:
    config = ForecasterConfig(**gpu.TINY["default"])
    variants = [gpu.BASELINE, next(v for v in gpu.TENSORFLOW if v["name"] == "float32")]
    results = [{"backend": "tensorflow"} | v | steps.run(config, v, 6, 400) for v in variants]
    naive, prefetched = gpu._judged(results, gpu.TINY["default"])
    assert naive["loss"] == pytest.approx(prefetched["loss"], abs=1e-6), "same windows, same steps"
    assert naive["speed_up"] == 1 and prefetched["speed_up"] > 0 and prefetched["share_of_peak"] is None
    assert naive["tflops"] == pytest.approx(naive["samples_per_second"] * training_flops(config, 40) / 1e12)
    failed = {"backend": "jax"} | gpu.JAX[0] | {"failed": "no memory"}
    found = {"models": {"tiny": {"config": gpu.TINY["default"], "results": [naive, prefetched, failed]}}}
    text = gpu.table(found)
    assert "| tensorflow | float32, naive loader |" in text and "| no memory |" in text


def test_the_naive_loader_copies_the_same_windows() -> None:
    made, order = steps.MadeBars(8, 100), np.array([5, 700, 31])
    naive = steps.NaiveBatches(made, "train", order, 2)
    usual = steps.WindowBatches(made, "train", order, 2)
    for i in range(2):
        assert np.array_equal(naive.gather(i)[0], usual.gather(i)[0])
        for name, array in usual.gather(i)[1].items():
            assert np.array_equal(naive.gather(i)[1][name], array), name
