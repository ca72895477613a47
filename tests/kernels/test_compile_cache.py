"""Compiled code: compiled once, kept where one can write, loaded without the compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.compile import compile_program
from kernels.errors import KernelError
from kernels.generate import build
from kernels.objects import cache_folder, entry_point

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from kernels.compute import compute
from kernels.sample import sample_panel
values = compute(sample_panel(64, 9), ("rsi_5", "sma_6")).values
print("numba" in sys.modules, float(values[0, -1, 0]))
"""


def start(cache: Path, root: Path = REPOSITORY, **more: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "KLINECAST_HOME")}
    environment |= {
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd="/",
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[str]) -> list[str]:
    told, _ = process.communicate(timeout=240)
    assert process.returncode == 0, told
    return told.splitlines()


def test_four_processes_compile_once_and_later_ones_not_at_all(tmp_path):
    told = [finish(p) for p in [start(tmp_path) for _ in range(4)]]
    assert sum(line.startswith("compiled 2 features") for lines in told for line in lines) == 1
    assert len({lines[-1].split()[1] for lines in told}) == 1
    assert len(list(tmp_path.rglob("*.kernel"))) == 1
    warm = finish(start(tmp_path))
    assert warm == [f"False {told[0][-1].split()[1]}"]

    (file,) = tmp_path.rglob("*.kernel")
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    draft = file.with_name(f"{file.stem}-draft")  # of a process that was killed while writing
    draft.write_bytes(b"")
    mended = finish(start(tmp_path))
    assert mended[0].startswith("damaged kernel cache file")
    assert mended[-1].split()[1] == warm[-1].split()[1]
    assert file.read_bytes() != whole[:-100]
    assert not draft.exists()


def test_a_read_only_install_works(tmp_path):
    install, cache = tmp_path / "install", tmp_path / "cache"
    shutil.copytree(REPOSITORY / "kernels", install / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*install.rglob("*"), install]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = sorted(install.rglob("*"))
        assert finish(start(cache, install))[-1].split()[0] in ("True", "False")
        assert sorted(install.rglob("*")) == before
    finally:
        for path in [install, *install.rglob("*")]:
            path.chmod(0o755)


def test_where_the_cache_lies(tmp_path, monkeypatch):
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "KLINECAST_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    assert cache_folder() == tmp_path / "numba_cache_dir" / "klinecast"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert cache_folder() == tmp_path / "xdg_cache_home" / "klinecast" / "kernels"
    blocked = tmp_path / "a_file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert cache_folder() == tmp_path / "klinecast_home" / "cache" / "kernels"


def test_a_folder_that_others_may_write_is_not_trusted(tmp_path, monkeypatch):
    shared = tmp_path / "shared" / "klinecast"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(shared.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine" / "klinecast" / "kernels"


def test_an_interrupted_compilation_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("kernels.objects._compile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        entry_point(build(("sma_3",)), 8, 32)
    assert not list(tmp_path.rglob("*.kernel"))
    monkeypatch.undo()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    entry_point(build(("sma_3",)), 8, 32)
    assert len(list(tmp_path.rglob("*.kernel"))) == 1


@pytest.fixture(scope="module")
def kernel() -> tuple[str, bytes]:
    return compile_program(build(("sma_3",)), 8, 32)


@pytest.fixture
def compiled(kernel, monkeypatch):
    """Let nothing be compiled anew, and count how often that was asked for."""
    asked: list[int] = []
    monkeypatch.setattr("kernels.objects._compile", lambda *_: asked.append(1) or kernel)
    return asked


def refuse(*_arguments, **_options):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["objects.os.fsync", "objects.tempfile.mkstemp", "locks.fcntl.flock"])
def test_a_disk_that_takes_nothing_stops_nobody(tmp_path, monkeypatch, caplog, compiled, where):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(f"kernels.{where}", refuse)
    assert callable(entry_point(build(("sma_3",)), 8, 32))
    assert "No space left on device" in caplog.text
    assert compiled == [1]
    assert not [p for p in tmp_path.rglob("*-*") if p.is_file()]


def test_without_any_folder_every_process_compiles(tmp_path, monkeypatch, caplog, compiled):
    monkeypatch.setattr("kernels.objects._is_ours", lambda _folder: False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert callable(entry_point(build(("sma_3",)), 8, 32))
    assert "NUMBA_CACHE_DIR" in caplog.text
    with pytest.raises(KernelError, match="only this user can write"):
        cache_folder()


def test_a_cache_file_that_cannot_be_read_is_made_anew(tmp_path, monkeypatch, compiled):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    entry_point(build(("sma_3",)), 8, 32)
    (file,) = tmp_path.rglob("*.kernel")
    file.unlink()
    file.mkdir()
    assert callable(entry_point(build(("sma_3",)), 8, 32))
    assert compiled == [1, 1]
