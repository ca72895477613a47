"""The loader: same batches in the same order, gathered ahead, within a bound of memory, its waits measured."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from training.data.training_set import TrainingSet, row_order
from training.fitting.batches import AHEAD, HANDED_ON, WaitForInput, WindowBatches, memory_bound
from training.network.backend import keras

REPOSITORY = Path(__file__).resolve().parents[2]


class Slow(WindowBatches):
    """Takes a while for each batch, and counts the arrays of windows that are alive."""

    seconds = 0.0

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.alive, self.most, self.lock = 0, 0, threading.Lock()

    def gather(self, i: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        time.sleep(self.seconds)
        windows, targets = super().gather(i)
        with self.lock:
            self.alive += 1
            self.most = max(self.most, self.alive)
        weakref.finalize(windows, self.gone)
        return windows, targets

    def gone(self) -> None:
        with self.lock:
            self.alive -= 1


def fitted(batches: WindowBatches, seconds: float) -> tuple[float, list[float]]:
    """One pass of a model whose step takes `seconds`; the share waited, and the sum of each batch."""
    seen: list[float] = []

    class Step(keras.Model):
        def call(self, x: object) -> object:
            return x

        def train_step(self, data: tuple) -> dict:  # type: ignore[type-arg]
            seen.append(float(np.asarray(data[0]).sum(dtype=np.float64)))
            time.sleep(seconds)
            return {"loss": keras.ops.zeros(())}

    model = Step()
    model.compile(run_eagerly=True)
    started = time.monotonic()
    with batches:
        model.fit(batches.as_input(), verbose=0, shuffle=False, callbacks=[WaitForInput(batches)])
    return batches.waited / (time.monotonic() - started), seen


def test_batches_come_in_order_ahead_of_their_use_and_within_the_bound(built: TrainingSet) -> None:
    order = row_order(len(built.rows["train"]), shuffle=True, seed=(1, 2))[:590]
    batches = Slow(built, "train", order, 20)  # the last one is smaller
    batches.seconds = 0.01
    share, seen = fitted(batches, 0.04)
    expected = [
        built.batch("train", order[k : k + 20]).windows.sum(dtype=np.float64) for k in range(0, 590, 20)
    ]
    assert seen == expected
    assert AHEAD <= batches.most <= AHEAD + HANDED_ON, "gathered ahead, but never more than stated"
    assert memory_bound(20, 8, 5) == (AHEAD + HANDED_ON) * built.batch("train", order[:20]).windows.nbytes
    assert share < 0.12, "gathering, a fifth of the time otherwise, is hidden behind the steps"


def test_waiting_for_a_slow_source_is_measured(built: TrainingSet) -> None:
    batches = Slow(built, "train", np.arange(240), 20)
    batches.seconds = 0.15
    share, _ = fitted(batches, 0.0)
    assert batches.waited > 0.8 * 12 * 0.15 and share <= 1


def test_an_error_while_gathering_ends_the_pass(built: TrainingSet) -> None:
    with pytest.raises(Exception, match="out of bounds"):
        fitted(WindowBatches(built, "train", np.array([0] * 100 + [10**6] * 20), 20), 0.0)


FAR_LARGER = """
import json, sys, threading, time
from dataclasses import replace
from pathlib import Path
import numpy as np
from training.fitting import fit
from training.fitting.batches import memory_bound
from training.data.training_set import ARRAYS, TrainingSet

small = TrainingSet.load(Path(sys.argv[1]))
folder, F, S = Path(sys.argv[2]), len(small.feature_names), len(small.manifest.symbols)
T = 3_000_000_000 // (4 * F * S)  # 3 GB of features, most of them a hole in the file
rows = {name: len(index) for name, index in small.rows.items()}
places = np.linspace(50, T - 50, sum(rows.values())).astype(np.int64)
shapes = {"features": (S, T, F), "open_time": (T,)}
arrays = {}
for name in (n for n in ARRAYS if n not in small.rows):
    dtype = getattr(small, name).dtype
    arrays[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shapes.get(name, (T, S)))
order = iter(places)
for name, index in small.rows.items():
    moved = index.copy()
    for k, (t, s) in enumerate(index):
        moved[k] = at, _ = next(order), s
        arrays["features"][s, at - 7 : at + 1] = small.features[s, t - 7 : t + 1]
        for target in ("close", "log_return", "realised_volatility", "volatility", "direction"):
            arrays[target][at, s] = getattr(small, target)[t, s]
    np.save(folder / f"{name}.npy", moved)
for array in arrays.values():
    array.flush()
(folder / "manifest.json").write_text(small.manifest.model_dump_json())
size = sum((folder / f"{name}.npy").stat().st_size for name in arrays)
del arrays, array

def kilobytes(name):
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return int(line.split()[1])

seen = []
def note(progress):  # memory that is the process's own, once the training step exists
    seen.append((kilobytes("RssAnon"), kilobytes("VmRSS")))
fit.REPORT_SECONDS = 0.0
fit.train(TrainingSet.load(folder), small.manifest.config, folder / "out", note)
steady = seen[len(seen) // 3 :]
print(json.dumps({"size": size, "steps": len(seen), "own": [a * 1024 for a, _ in steady],
                  "whole": max(b for _, b in seen) * 1024, "bound": memory_bound(64, 8, F)}))
"""


def test_a_set_far_larger_than_the_bound_trains_in_bounded_memory(built: TrainingSet, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FAR_LARGER, str(built.path), str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["size"] > 3e9 > 1000 * told["bound"]
    grown = max(told["own"]) - told["own"][0]
    assert grown < 100e6, f"grew by {grown / 1e6:.0f} MB while training on {told['size'] / 1e9:.1f} GB"
    assert told["whole"] < 0.6 * told["size"], "TensorFlow itself, and the pages that were touched"
