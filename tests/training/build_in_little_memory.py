"""Build a training set of published features, wider than what may be held of it: FOLDER CHUNK_VALUES.

Run in a process of its own by test_memory.py; prints how far its memory grew, in MiB, and the size of the set.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from kernels.compute import FeatureBlock
from training.config import ForecasterConfig
from training.data import set_arrays
from training.data.dataset import build_training_set

FEATURES, BARS, SYMBOLS = 128, 12_288, 16


def published(folder: Path) -> FeatureBlock:
    """Map a file of features that is mostly a hole: it reads as zeros and takes no room on the disk."""
    shape = (FEATURES, BARS, SYMBOLS)
    values = np.lib.format.open_memmap(folder / "values.npy", mode="w+", dtype=np.float32, shape=shape)
    values[0] = 0.01
    names = ("realised_vol_30", *(f"feature_{at}" for at in range(1, FEATURES)))
    symbols = tuple(f"S{at}USDT" for at in range(SYMBOLS))
    return FeatureBlock(
        np.load(folder / "values.npy", mmap_mode="r"), names, 900_000 * np.arange(BARS), symbols
    )


def most_held() -> int:
    """Most memory that this process has held, KiB; unlike `ru_maxrss`, without that of the one that started it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def main() -> None:
    """Build it."""
    folder, set_arrays.CHUNK_VALUES = Path(sys.argv[1]), int(sys.argv[2])
    block = published(folder)
    close = 100 + np.sin(np.arange(BARS * SYMBOLS)).reshape(BARS, SYMBOLS)
    before = most_held()
    made = build_training_set(block, close, "15m", ForecasterConfig(window=16), folder / "set")
    grown = most_held() - before
    size = (made.path / "features.npy").stat().st_size
    print(grown / 2**10, size / 2**20)


if __name__ == "__main__":
    main()
