"""Which arithmetic a training run uses: chosen by what the machine has, unless the settings say otherwise.

======================================  ================  =======
machine                                 precision         XLA
======================================  ================  =======
GPU of compute capability 8.0 or above  mixed_bfloat16    yes
GPU of compute capability 7.x           mixed_float16     yes
older GPU, or none                      float32           no
======================================  ================  =======

Tensor cores multiply float16 from capability 7.0 on and bfloat16 from 8.0 on (NVIDIA, CUDA C++ Programming
Guide, "Compute Capabilities"); bfloat16 has the exponent of float32 and needs no loss scaling. On a CPU
neither gains anything. Under JAX a step is compiled in any case: run operation by operation, JAX is slower by
an order of magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.config import ForecasterConfig, Precision


@dataclass(frozen=True)
class Device:
    """What the training step runs on, as the backend sees it."""

    backend: str
    """Keras backend, ``"tensorflow"`` or ``"jax"``."""
    name: str = "cpu"
    capability: tuple[int, int] | None = None
    """CUDA compute capability of the first GPU; None without a GPU."""


@dataclass(frozen=True)
class Computation:
    """The arithmetic of a run, and why it is so."""

    device: str
    precision: Precision
    jit_compile: bool
    reason: str

    def applied(self, config: ForecasterConfig) -> ForecasterConfig:
        """Put the choice in place of the settings that leave it open."""
        return config.model_copy(update={"precision": self.precision, "jit_compile": self.jit_compile})

    def record(self) -> dict[str, str]:
        """What is written into the description of the forecaster; part of the identity of the run."""
        return {
            "device": self.device,
            "precision": self.precision,
            "xla": str(self.jit_compile).lower(),
            "computation_reason": self.reason,
        }


def decided_precision(config: ForecasterConfig) -> Precision:
    """Precision of settings in which it was decided; see `Computation.applied`."""
    if config.precision == "auto":
        raise ValueError("the precision is still to be chosen")
    return config.precision


def choose_computation(config: ForecasterConfig, device: Device | None = None) -> Computation:
    """Decide precision and XLA for a run.

    Parameters
    ----------
    config
        `precision` other than ``"auto"`` and `jit_compile` other than None are taken as they are.
    device
        What it will run on; by default the device that the backend uses in this process.
    """
    device = device or present_device()
    precision, jit_compile, reason = _suited(device)
    if config.precision != "auto":
        precision, reason = config.precision, f"{reason}; precision set to {config.precision}"
    if config.jit_compile is not None:
        jit_compile = config.jit_compile
        reason = f"{reason}; XLA set {'on' if jit_compile else 'off'}"
    return Computation(device.name, precision, jit_compile, reason)


def _suited(device: Device) -> tuple[Precision, bool, str]:
    compiled = device.backend == "jax"
    if device.capability is None:
        why = "no GPU: float32" + (", compiled because JAX always is" if compiled else " without XLA")
        return "float32", compiled, why
    told = f"GPU of compute capability {device.capability[0]}.{device.capability[1]}"
    if device.capability >= (8, 0):
        return "mixed_bfloat16", True, f"{told}: bfloat16 tensor cores, XLA"
    if device.capability >= (7, 0):
        return "mixed_float16", True, f"{told}: float16 tensor cores, XLA"
    return "float32", compiled, f"{told}: no tensor cores"


def present_device() -> Device:
    """Ask the backend of this process for its first GPU."""
    from training.network.backend import keras

    backend = keras.backend.backend()
    if backend == "jax":
        return _jax_device()
    if backend == "tensorflow":
        return _tensorflow_device()
    return Device(backend)


def _tensorflow_device() -> Device:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return Device("tensorflow")
    details = tf.config.experimental.get_device_details(gpus[0])
    capability = details.get("compute_capability", (0, 0))
    return Device("tensorflow", str(details.get("device_name", "GPU")), (capability[0], capability[1]))


def _jax_device() -> Device:
    import jax

    first = jax.devices()[0]
    if first.platform not in ("gpu", "cuda"):
        return Device("jax", first.platform)
    major, _, minor = str(getattr(first, "compute_capability", "0.0")).partition(".")
    return Device("jax", first.device_kind, (int(major), int(minor or 0)))
