"""The one place where Keras and TensorFlow are first imported: quiet, and within the machine's cores.

Every module that needs Keras takes it from here, because the environment has to be set before that import.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no banner about CPU instructions or absent GPUs
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

_CHATTER = (
    "absl::InitializeLog",
    "cudart_stub",
    "oneDNN custom operations",
    "cuda_dnn",
    "cuda_blas",
    "cuda_fft",
)


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Drop the lines that TensorFlow's libraries write to file descriptor 2 before its log level counts."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        kept = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written.read().decode(errors="replace").splitlines():
                if line and not any(word in line for word in _CHATTER):
                    print(line, file=sys.stderr)


with _without_chatter():
    import keras
    from keras import layers, ops

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.list_physical_devices()  # has the last of it said now
        tf.get_logger().setLevel(
            "ERROR"
        )  # each fold has a model of its own, which is no reason for a warning


def available_cores() -> int:
    """Cores this process may run on (not all that the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def limit_threads(threads: int | None = None) -> int:
    """Hold TensorFlow to `threads` compute threads, by default the cores of this process.

    TensorFlow fixes its thread pools at the first operation; after that the present number stays. The order
    of floating point sums depends on it, so it belongs to the record of a training run.

    Returns
    -------
    int
        The number of threads in force (0: the backend is not TensorFlow). A pool that was started before anyone
        named a number has one thread for each core of the process, and counts as that many.
    """
    if keras.backend.backend() != "tensorflow":
        return 0
    wanted = threads or available_cores()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(wanted)
        tf.config.threading.set_inter_op_parallelism_threads(min(2, wanted))
    except RuntimeError:  # already running
        return int(tf.config.threading.get_intra_op_parallelism_threads()) or available_cores()
    return wanted


__all__ = ["available_cores", "keras", "layers", "limit_threads", "ops"]
