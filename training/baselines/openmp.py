"""LightGBM on machines without OpenMP's library.

Its wheel asks the system for `libgomp.so.1`, which a fresh Debian does not have and nobody can install there without
being root. The wheel of scikit-learn brings that library, under a name of its own so that it meets no other.
"""

from __future__ import annotations

import ctypes
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

_NAME = "libgomp.so.1"


def import_lightgbm() -> ModuleType:
    """Import LightGBM, with the OpenMP library of scikit-learn's wheel where the system has none.

    Raises
    ------
    OSError
        Neither has one that can be loaded.
    """
    try:
        ctypes.CDLL(_NAME)
    except OSError:
        lend_openmp()
    import lightgbm

    return lightgbm


def lend_openmp() -> bool:
    """Load scikit-learn's OpenMP library under the name that LightGBM asks for; tell whether there is one.

    A loaded library answers to the name that stands in it (SONAME), so a copy with the usual one is loaded. The copy is
    gone from the disk before this returns.
    """
    spec = find_spec("sklearn")
    folder = Path(spec.origin).parent.parent / "scikit_learn.libs" if spec and spec.origin else Path()
    for library in sorted(folder.glob("libgomp-*.so*")):
        code, own = library.read_bytes(), library.name.encode() + b"\0"
        if code.count(own) != 1:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / _NAME
            copy.write_bytes(code.replace(own, _NAME.encode().ljust(len(own), b"\0")))
            ctypes.CDLL(str(copy), mode=ctypes.RTLD_GLOBAL)
        return True
    return False
