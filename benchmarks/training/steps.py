"""Worker of `benchmarks.training.gpu`: trains some variants in this process and prints a JSON line for each."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import numpy as np

from training.config import ForecasterConfig, Normalisation
from training.data.training_set import Batch, Outcomes
from training.fitting.batches import WaitForInput, WindowBatches
from training.network.backend import keras
from training.network.losses import losses
from training.network.model import build_model, training_heads
from training.network.optimizer import make_optimizer
from training.network.precision import present_device

FEATURES = 40
_BARS, _SYMBOLS = 60_000, 8
_WARM_UP_STEPS = 3
_JUDGED_BATCHES = 8


class MadeBars:
    """Bars with something to learn, in memory: what `WindowBatches` needs of a training set."""

    def __init__(self, window: int, bars: int) -> None:
        rng = np.random.default_rng(0)
        self.window, self.bars = window, bars
        self.features = rng.standard_normal((_SYMBOLS, bars, FEATURES), np.float32)
        self.features[:, :, 1] = 0.01  # the volatility
        shown = self.features[:, :, 0]
        smooth = shown + np.roll(shown, 3, axis=1) + np.roll(shown, 9, axis=1)
        self.scaled = (0.5 * smooth + rng.standard_normal(shown.shape, np.float32)).astype(np.float32)

    def batch(self, split: str, positions: np.ndarray) -> Batch:
        """Gather windows as a training set does, by indexing a view."""
        rows = self.rows(positions)
        view = np.lib.stride_tricks.sliding_window_view(self.features, self.window, axis=1)
        windows = view.transpose(1, 0, 3, 2)[rows[:, 0] - (self.window - 1), rows[:, 1]]
        return Batch(windows, self.outcomes(rows), rows)

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Bar and symbol of each position."""
        return np.stack([self.window - 1 + positions // _SYMBOLS, positions % _SYMBOLS], axis=1).astype(
            np.int32
        )

    def outcomes(self, rows: np.ndarray) -> Outcomes:
        """What came after."""
        scaled = self.scaled[rows[:, 1], rows[:, 0]]
        volatility = np.full(len(rows), 0.02, np.float32)
        direction = (1 + np.sign(np.trunc(scaled * 2))).astype(np.int8)
        return Outcomes(direction, scaled * volatility, volatility, volatility * np.exp(0.1 * np.abs(scaled)))


class NaiveBatches(WindowBatches):
    """One window after another, copied in Python, when it is asked for."""

    def gather(self, i: int) -> Any:
        """Copy the windows of batch `i` one by one."""
        made, positions = self.training_set, self.order[i * self.batch_size : (i + 1) * self.batch_size]
        rows = made.rows(positions)  # type: ignore[operator]
        windows = [made.features[s, t - made.window + 1 : t + 1] for t, s in rows]  # type: ignore[attr-defined]
        outcomes = [made.outcomes(row[None]) for row in rows]
        joined = Outcomes(*(np.concatenate(arrays) for arrays in zip(*outcomes, strict=True)))
        batch = Batch(np.stack(windows), joined, rows)
        return batch.windows, self.targets(made, batch)

    def _take(self, i: int) -> Any:
        return self.gather(i)

    def _in_order(self) -> Any:
        yield from (self[i] for i in range(len(self)))

    def as_input(self) -> Any:
        """Nothing is prefetched."""
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        windows, targets = self.gather(0)
        signature = (
            tf.TensorSpec(windows.shape, windows.dtype),
            {name: tf.TensorSpec(array.shape, array.dtype) for name, array in targets.items()},
        )
        batches = tf.data.Dataset.from_generator(self._in_order, output_signature=signature)
        return batches.apply(tf.data.experimental.assert_cardinality(len(self)))


def run(config: ForecasterConfig, variant: dict[str, Any], steps: int, bars: int) -> dict[str, Any]:
    """Train some steps, timed once compiled, and judge the result on windows not seen."""
    keras.utils.set_random_seed(variant["seed"])
    made = MadeBars(config.window, bars)
    normalisation = Normalisation(mean=(0.0,) * FEATURES, std=(1.0,) * FEATURES)
    model = build_model(config, FEATURES, normalisation, volatility_index=1, precision=variant["precision"])
    if variant["cudnn"]:
        model.get_layer("lstm").use_cudnn = True
    network = training_heads(model)
    settings = config.model_copy(update={"precision": variant["precision"], "epochs": 1})
    optimizer = make_optimizer(settings, _WARM_UP_STEPS + steps)
    network.compile(optimizer, losses(config), jit_compile=variant["xla"], auto_scale_loss=False)
    rows = (bars - config.window) * _SYMBOLS
    order = np.random.default_rng(1).permutation(rows)
    judged = order[: _JUDGED_BATCHES * config.batch_size]
    rest = order[len(judged) :]
    rest = np.resize(rest, (_WARM_UP_STEPS + steps) * config.batch_size)
    kind = NaiveBatches if variant["naive"] else WindowBatches
    started = time.perf_counter()
    _pass(network, kind, made, rest[: _WARM_UP_STEPS * config.batch_size], config.batch_size)
    compiled = time.perf_counter()
    waited = _pass(network, kind, made, rest[_WARM_UP_STEPS * config.batch_size :], config.batch_size)
    seconds = time.perf_counter() - compiled
    memory = _peak_memory()
    with WindowBatches(made, "test", judged, config.batch_size) as unseen:  # type: ignore[arg-type]
        loss = network.evaluate(unseen.as_input(), verbose=0, return_dict=True)["loss"]
    return {
        "device": present_device().name,
        "samples_per_second": steps * config.batch_size / seconds,
        "step_ms": 1e3 * seconds / steps,
        "first_steps_seconds": compiled - started,
        "input_wait_share": waited / seconds,
        "peak_memory_bytes": memory,
        "loss": float(loss) if math.isfinite(loss) else None,
    }


def _pass(network: Any, kind: Any, made: MadeBars, order: np.ndarray, batch_size: int) -> float:
    batches = kind(made, "train", order, batch_size)
    watch = (
        [] if kind is NaiveBatches else [WaitForInput(batches)]
    )  # all naive gathering is waiting: it is counted
    with batches:
        network.fit(batches.as_input(), verbose=0, shuffle=False, callbacks=watch)
    return float(batches.waited)


def _peak_memory() -> int | None:
    """Most bytes of GPU memory in use so far; None without a GPU."""
    if keras.backend.backend() == "jax":
        import jax

        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return None
    peak = int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    tf.config.experimental.reset_memory_stats("GPU:0")
    return peak


def main() -> None:
    """Read the work as JSON from standard input; a variant that fails is told, the next one goes on."""
    work = json.load(sys.stdin)
    config = ForecasterConfig(**work["config"])
    for variant in work["variants"]:
        if time.time() > work["deadline"]:
            found: dict[str, Any] = {"skipped": "out of time"}
        else:
            try:
                found = run(config, variant, work["steps"], work.get("bars", _BARS))
            except Exception as error:
                found = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
        sys.stdout.write(json.dumps(variant | found) + "\n")
        sys.stdout.flush()
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
