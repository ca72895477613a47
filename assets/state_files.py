"""Small JSON files under KLINECAST_HOME: read, and published in one step."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from assets.errors import AssetError


class HomeError(AssetError):
    """KLINECAST_HOME cannot be written."""


def require_home(home: Path) -> Path:
    """Make sure that the folder of all state is there and can be written.

    Raises
    ------
    HomeError
        When it cannot be made, is no folder, or cannot be written.
    """
    probe = home / f".probe-{os.getpid()}-{threading.get_ident()}"  # threads look at the same time
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        raise _home_error(home, error) from None
    return home


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Publish a small JSON file in one step: a reader sees the old content or the new, never a part."""
    staged = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("w") as stream:
            json.dump(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        staged.replace(path)
    except OSError as error:
        raise _home_error(path, error) from None


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a small JSON file; None where there is none or it does not hold an object."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _home_error(path: Path, error: OSError) -> HomeError:
    return HomeError(
        f"cannot write to the folder of all state: {error.strerror or error}",
        where=f"{path} (KLINECAST_HOME)",
        remedy="free some space, mend the folder's permissions, or set KLINECAST_HOME to another folder",
    )
