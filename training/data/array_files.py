"""Reading arrays from files that may be damaged.

NumPy and the modules that it reads with check little and raise what comes: of single wrong bytes came BadZipFile,
NotImplementedError (a compression method that there is not), RuntimeError (an encrypted file), zlib.error,
struct.error, tokenize.TokenError, SyntaxError, TypeError and MemoryError. A list would never be complete.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np


class DamagedArraysError(Exception):
    """An array file is absent or cannot be read; the text says what came of it."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file, whose checksums are looked at.

    Raises
    ------
    DamagedArraysError
        It is absent or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:
        raise DamagedArraysError(f"{type(error).__name__}: {error}") from error


def map_array(path: Path) -> np.ndarray:
    """Map an .npy file.

    Raises
    ------
    DamagedArraysError
        It is absent, or its header is damaged; its values have no checksum.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:
        raise DamagedArraysError(f"{type(error).__name__}: {error}") from error
