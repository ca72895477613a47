"""Batches for Keras, gathered ahead of their use by a thread, in a fixed order and within a fixed memory.

While the device computes a step, a thread gathers the windows of the next ones. The order is the caller's and
does not depend on timing, so that a run repeats bit for bit. How long the training loop stood waiting for its
input is measured; see `WindowBatches.waited`.

Memory: at most `AHEAD` + `HANDED_ON` batches exist at a time, whatever the length of the history; a batch of
windows takes ``batch_size * window * features * 4`` bytes. The order takes 8 bytes per training row. Arrays
of the training set are file maps, whose pages the system takes back when it needs them.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import numpy as np

from training.data.training_set import Batch, TrainingSet
from training.network.backend import keras

AHEAD = 4
"""Batches gathered, or being gathered, before they are asked for."""
_TF_PREFETCH = 2
HANDED_ON = _TF_PREFETCH + 3
"""Batches that Keras may hold: prefetched, being converted, the one computed on, the one let go of."""

Targets = dict[str, np.ndarray]
TargetFunction = Callable[[TrainingSet, Batch], Targets]
Example = tuple[np.ndarray, Targets]


def last_bar_targets(data: TrainingSet, batch: Batch) -> Targets:
    """One target of each kind per window, that of its last bar."""
    outcomes = batch.outcomes
    return {
        "direction_logits": outcomes.direction.astype(np.int32),
        "scaled_quantiles": outcomes.scaled[:, None],
        "log_volatility_ratio": outcomes.log_volatility_ratio[:, None],
    }


def memory_bound(batch_size: int, window: int, features: int) -> int:
    """Bytes that the windows in flight take at most."""
    return (AHEAD + HANDED_ON) * batch_size * window * features * 4


class WindowBatches(keras.utils.PyDataset):
    """Batches of one split in a given order.

    Use it as a context manager around one pass of Keras, and hand Keras `as_input()`.

    Parameters
    ----------
    training_set, split
        Where windows and outcomes are gathered from.
    order
        (n,) positions among the rows of the split.
    batch_size
        Rows in a batch; the last one may be smaller.
    targets
        What is learned from a batch.

    Attributes
    ----------
    waited
        Seconds that the training loop stood waiting for its next batch, so far. On a GPU, which computes
        behind the loop's back, the device waits for no longer than that.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        split: str,
        order: np.ndarray,
        batch_size: int,
        targets: TargetFunction = last_bar_targets,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=1)
        self.training_set, self.split, self.order = training_set, split, order
        self.batch_size, self.targets = batch_size, targets
        self.waited = 0.0
        self._gatherer = ThreadPoolExecutor(1, thread_name_prefix="gather")
        self._pending: deque[tuple[int, Future[Example]]] = deque()
        self._progress = threading.Condition()
        self._asked_for = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._gatherer.shutdown(cancel_futures=True)
        self._pending.clear()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, i: int) -> Example:
        """Return batch `i`, and have those after it gathered."""
        started = time.monotonic()
        example = self._take(i)
        self.waited += time.monotonic() - started
        return example

    def gather(self, i: int) -> Example:
        """Copy the windows and targets of batch `i`."""
        return self._gathered(self.order[i * self.batch_size : (i + 1) * self.batch_size])

    def _gathered(self, positions: np.ndarray) -> Example:
        batch = self.training_set.batch(self.split, positions)
        return batch.windows, self.targets(self.training_set, batch)

    def as_input(self) -> Any:
        """Return what Keras is to be given: a `tf.data.Dataset` under TensorFlow, else the batches themselves.

        Keras would wrap the batches into a data set itself, but with a prefetch buffer that grows on its own.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False
        options.threading.private_threadpool_size = 1  # leaves the cores to the training step
        windows, targets = self._gathered(self.order[:1])
        rows = None if len(self.order) % self.batch_size else self.batch_size  # known: compiled for it
        signature = (_spec(windows, rows), {name: _spec(array, rows) for name, array in targets.items()})
        batches = tf.data.Dataset.from_generator(self._in_order, output_signature=signature)
        counted = batches.apply(tf.data.experimental.assert_cardinality(len(self)))
        return counted.prefetch(_TF_PREFETCH).with_options(options)

    def wait_for(self, step: int) -> None:
        """Wait until the batch of a step lies ready in TensorFlow, and count the time as waited.

        A batch is ready once TensorFlow, having converted it, asks for the next.
        """
        started = time.monotonic()
        with self._progress:
            self._progress.wait_for(lambda: self._asked_for > step + 1)
        self.waited += time.monotonic() - started

    def _in_order(self) -> Iterator[Example]:
        """All batches, for TensorFlow; notes what it has asked for."""
        try:
            for i in range(len(self)):
                self._note(i + 1)
                yield self._take(i) if i else self[i]  # nothing runs yet that could hide the first
        finally:
            self._note(len(self) + 2)

    def _note(self, asked_for: int) -> None:
        with self._progress:
            self._asked_for = asked_for
            self._progress.notify_all()

    def _take(self, i: int) -> Example:
        """Take batch `i` from those gathered ahead; another order than the usual one starts anew."""
        if not self._pending or self._pending[0][0] != i:
            for _, unused in self._pending:
                unused.cancel()
            self._pending.clear()
            self._submit(i)
        _, ready = self._pending.popleft()
        example = ready.result()
        following = self._pending[-1][0] + 1 if self._pending else i + 1
        for later in range(following, min(i + 1 + AHEAD, len(self))):
            self._submit(later)
        return example

    def _submit(self, i: int) -> None:
        self._pending.append((i, self._gatherer.submit(self.gather, i)))


class WaitForInput(keras.callbacks.Callback):
    """Callback that has a training pass under TensorFlow measure `WindowBatches.waited`.

    There the batches reach the step through TensorFlow's own queue, out of Python's sight. Before each step
    but the first, which starts that queue, this waits for what the step would wait for anyway.
    """

    def __init__(self, batches: WindowBatches) -> None:
        super().__init__()
        self._batches = batches
        self._measures = keras.backend.backend() == "tensorflow"

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Wait for the batch."""
        if self._measures and batch:
            self._batches.wait_for(batch)


def _spec(array: np.ndarray, rows: int | None) -> Any:
    import tensorflow as tf

    return tf.TensorSpec((rows, *array.shape[1:]), array.dtype)
