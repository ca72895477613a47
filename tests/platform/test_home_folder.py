"""The folder of all state is looked at by several threads of a process at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assets.home import Home
from assets.settings import current_settings
from assets.source import claim_source
from assets.state_files import read_json, require_home, write_json


def test_threads_that_look_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    def look(turn: int) -> Path:
        write_json(tmp_path / "home" / "state.json", {"turn": turn})
        return require_home(tmp_path / "home")

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(look, range(400))) == {tmp_path / "home"}
    assert read_json(tmp_path / "home" / "state.json") is not None
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["state.json"]


def test_a_store_in_a_database_and_a_bucket_is_there_once_its_source_is_claimed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it lies in the folder, and the first ingest may have been interrupted."""
    monkeypatch.setenv("KLINECAST_HOME", str(home))
    monkeypatch.setenv("KLINECAST_DATABASE_URL", "postgresql://127.0.0.1:9/nowhere")
    monkeypatch.setenv("KLINECAST_OBJECTS_URL", "s3://bucket/prefix")
    current_settings.cache_clear()
    assert not Home().holds_store()
    claim_source(home, "https://api.example")
    assert Home().holds_store()
    current_settings.cache_clear()
