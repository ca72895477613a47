"""What all parts of the benchmark share: clocks, turns, a clean scratch folder, facts about the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Figures = dict[str, Any]
"""Flat: name of the figure to its value; the names are told in README.md."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Timing:
    """Wall time, and CPU time of all threads of this process, in seconds."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: Timing) -> Timing:
        return Timing(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


@contextlib.contextmanager
def timed() -> Iterator[Timing]:
    """Time the block; the figures are there when it ends."""
    timing = Timing()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield timing
    finally:
        timing.wall_s = time.perf_counter() - wall
        timing.cpu_s = time.process_time() - cpu


def process_cpu_s(pid: int) -> float:
    """CPU seconds of another process so far; NaN where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def in_turns(runs: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Call all runs once a round, in an order that is turned round every time."""
    results: dict[str, list[T]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(rounds):
        for name in reversed(names) if turn % 2 else names:
            results[name].append(runs[name]())
    return results


def middle(values: Sequence[float]) -> float:
    """Return the median as a plain float."""
    return float(statistics.median(values))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` percent lie."""
    return float(np.percentile(np.asarray(values), share))


@contextlib.contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Give a new folder under `parent` that is gone afterwards, whatever happened."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bytes_under(folder: Path, pattern: str = "*") -> int:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def machine_facts(scratch: Path) -> Figures:
    """Return what the figures depend on: processor, memory, disk, versions, how busy the machine was."""
    kind = _file_system(scratch)
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "file_system": kind,
        "fsync_ms_p50": _fsync_ms(scratch),
        "python": platform.python_version(),
        **{name: version(name) for name in ("polars", "numpy", "pandas", "pyarrow", "ccxt")},
        "load_average": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """Name the file system of a folder: on tmpfs, durable would mean nothing."""
    best, kind = "", sys.platform
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text().splitlines():
            _, mount, found, *_ = line.split()
            if folder.resolve().is_relative_to(mount) and len(mount) >= len(best):
                best, kind = mount, found
    return kind


def _fsync_ms(folder: Path, tries: int = 50) -> float:
    """Median time to append 4 KiB to a file and have it on disk."""
    path, times = folder / "fsync", []
    with path.open("wb") as file:
        for _ in range(tries):
            file.write(b"\0" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - started) * 1e3)
    path.unlink()
    return round(middle(times), 3)
