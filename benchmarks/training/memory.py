"""How much memory building a training set and training on it need, as the history grows.

    python -m benchmarks.training.memory [--symbols 100] [--years 0.5 2] [--folder DIR] [--json]

Made bars of 15 minutes, their model features, and those of the hourly bars joined to them. Each stage runs in a
process of its own, on features mapped from a file. `grown` is by how much the most that the process held grew during
the stage, pages of mapped files included; `own` is the part of it that is not pages of files, sampled every 20 ms.
Pages of files are the page cache's: the system takes them back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kernels.catalogue import joined_features, model_features
from kernels.compute import compute
from kernels.feature_store import open_latest
from kernels.joins import IntervalFeatures, JoinedFeatures
from kernels.sample import SamplePanel, sample_panel
from market.intervals import interval_ms
from training.config import ForecasterConfig
from training.data.dataset import build_training_set
from training.data.training_set import TrainingSet

OWN, LONGER = "15m", "1h"
YEAR_BARS = 365 * 24 * 4
CONFIG = ForecasterConfig(epochs=1, max_windows=10_000, validation_windows=2_000)
MIB = 2**20


def make(folder: Path, bars: int, symbols: int) -> dict[str, Any]:
    """Publish features of made bars of both intervals, and the close prices."""
    from kernels.feature_store import publish

    times = interval_ms(LONGER) // interval_ms(OWN)
    panel = sample_panel(bars // times * times, symbols, interval_ms=interval_ms(OWN))
    panel = replace(panel, open_time=panel.open_time - panel.open_time[0] % interval_ms(LONGER))
    np.save(folder / "close.npy", panel.columns["close"])
    publish(compute(panel, model_features()), OWN, folder)
    publish(compute(_longer(panel, times), model_features()), LONGER, folder)
    return {}


def _longer(panel: SamplePanel, times: int) -> SamplePanel:
    how = {
        "open": lambda v: v[:, 0],
        "high": lambda v: v.max(1),
        "low": lambda v: v.min(1),
        "close": lambda v: v[:, -1],
    }
    columns = {
        name: np.ascontiguousarray(
            how.get(name, lambda v: v.sum(1))(values.reshape(-1, times, values.shape[1]))
        )
        for name, values in panel.columns.items()
    }
    return replace(panel, open_time=panel.open_time[::times].copy(), columns=columns)


def build(folder: Path) -> dict[str, Any]:
    """Build the training set."""
    own = IntervalFeatures(OWN, interval_ms(OWN), open_latest(folder, OWN))
    longer = IntervalFeatures(LONGER, interval_ms(LONGER), open_latest(folder, LONGER), joined_features())
    close = np.load(folder / "close.npy", mmap_mode="r")
    with _watched() as told:
        data = build_training_set(JoinedFeatures(own, [longer]), close, OWN, CONFIG, folder / "set")
    return told | _described(data)


def train(folder: Path) -> dict[str, Any]:
    """Train on it for one epoch of 10,000 windows."""
    from training.fitting.fit import train

    data = TrainingSet.load(folder / "set")
    with _watched() as told:
        train(data, CONFIG, folder / "forecaster")
    return told | _described(data)


def _described(data: TrainingSet) -> dict[str, Any]:
    symbols, bars, features = data.features.shape
    size = sum(file.stat().st_size for file in data.path.glob("*.npy"))
    return {"symbols": symbols, "bars": bars, "features": features, "set_mib": size / MIB}


@contextmanager
def _watched() -> Iterator[dict[str, Any]]:
    """Fill in, at the end, how far memory grew and how long it took."""
    told: dict[str, Any] = {}
    before, held, ended = _status(), [0], threading.Event()

    def sample() -> None:
        while not ended.wait(0.02):
            held.append(_status()["RssAnon"])

    watch = threading.Thread(target=sample, daemon=True)
    watch.start()
    started, used = time.perf_counter(), time.process_time()
    yield told
    told |= {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - used}
    ended.set()
    watch.join()
    told["grown_mib"] = (_status()["VmHWM"] - before["VmRSS"]) / 1024
    told["own_mib"] = (max(held) - before["RssAnon"]) / 1024


def _status() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        name: int(value.split()[0]) for name, value in (line.split(":", 1) for line in lines) if "kB" in value
    }


def measure(folder: Path, years: float, symbols: int) -> Iterator[dict[str, Any]]:
    """Run the stages for one length of history; yields what each needed."""
    stages = {"make": [str(int(years * YEAR_BARS)), str(symbols)], "build": [], "train": []}
    for stage, arguments in stages.items():
        command = [
            sys.executable,
            "-m",
            "benchmarks.training.memory",
            "--stage",
            stage,
            str(folder),
            *arguments,
        ]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise SystemExit(f"stage {stage} failed:\n{answer.stderr}")
        if stage != "make":
            yield {"stage": stage, "years": years} | json.loads(answer.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--years", type=float, nargs="+", default=[0.5, 2.0])
    parser.add_argument("--folder", type=Path, help="where the files go; by default a temporary folder")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stage", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        stage, folder, *numbers = options.stage
        print(json.dumps(globals()[stage](Path(folder), *map(int, numbers))))
        return
    rows = []
    for years in options.years:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            rows += measure(Path(folder), years, options.symbols)
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    print("| years | bars x symbols x features | set, MiB | stage | grown, MiB | own, MiB | seconds |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['years']:g} | {row['bars']:,} x {row['symbols']} x {row['features']} | {row['set_mib']:,.0f} |"
            f" {row['stage']} | {row['grown_mib']:,.0f} | {row['own_mib']:,.0f} | {row['seconds']:,.0f} |"
        )


if __name__ == "__main__":
    main()
