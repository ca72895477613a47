"""Fixtures that every part's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def _shared_data_folder() -> Path:
    """Where the recorded market data lies: KLINES_TEST_DATA, else beside the checkout."""
    given = os.environ.get("KLINES_TEST_DATA")
    return Path(given) if given else REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of recorded market data; a clone without it skips, the CI script refuses to start without it."""
    folder = _shared_data_folder()
    if not (folder / "README.md").is_file():
        pytest.skip(f"no recorded market data at {folder} (set KLINES_TEST_DATA)")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty KLINECAST_HOME for one test."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder
