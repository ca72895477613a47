"""Fixtures that every part's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
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


@pytest.fixture(autouse=True, scope="session")
def _no_request_budgets_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what fixtures of a wider scope ask out of the user's own record of requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _own_request_budgets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each test's record of requests apart: a port that one test was banned from may serve the next."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty KLINECAST_HOME for one test."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder
