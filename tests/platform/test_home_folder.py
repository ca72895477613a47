"""The folder of all state is looked at by several threads of a process at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from assets.state_files import read_json, require_home, write_json


def test_threads_that_look_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    def look(turn: int) -> Path:
        write_json(tmp_path / "home" / "state.json", {"turn": turn})
        return require_home(tmp_path / "home")

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(look, range(400))) == {tmp_path / "home"}
    assert read_json(tmp_path / "home" / "state.json") is not None
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["state.json"]
