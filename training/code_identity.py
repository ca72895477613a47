"""What code made something: results are taken as they are only where the same code would make them again."""

from __future__ import annotations

import functools
import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import training

_LIBRARIES = ("keras", "tensorflow", "jax", "numpy", "scipy", "scikit-learn", "lightgbm")


@functools.cache
def _of_this_code() -> list[Any]:
    """The source of this package, as a hash, and the libraries that it computes with."""
    root = Path(training.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root)} {len(content)}\n".encode() + content)
    return [digest.hexdigest(), {name: _version(name) for name in _LIBRARIES}]


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def identity(*parts: Any) -> str:
    """Hash of this code, its libraries, and whatever else a result depends on, given as JSON values."""
    return hashlib.sha256(json.dumps([_of_this_code(), *parts], sort_keys=True).encode()).hexdigest()
