"""The folders in which forecasters are trained: one a run, named by all that its result depends on.

So a training with other settings leaves the former result where it is, and the same one again finds its own. The
`KEPT_RUNS` used last are kept. What was published lies in its bundle and needs none of them.

::

    training/forecasters/<run>/     checkpoint, then the forecaster, its figures and its controls
    training/forecasters/<run>/run.json     what it is a run of, and when it was last asked for
    training/turns/<run>            held by whoever trains or judges it
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.clock import wall_clock_ms
from assets.kept_metrics import kept_metrics
from assets.state_files import read_json, write_json
from assets.turns import remove_at_turn
from training.data.training_set import TrainingSet
from training.errors import ForecasterError
from training.fitting.checkpoint import CHECKPOINT_FILE, DIVERGED_FILE
from training.network.forecaster_files import META_FILE, load_meta

KEPT_RUNS = 8
RECORD_FILE = "run.json"


@dataclass(frozen=True)
class Kept:
    """What is there of forecasters on this disk.

    Attributes
    ----------
    runs, bytes
        Folders that stay, and their size.
    removed
        Folders that were removed just now.
    """

    runs: int
    bytes: int
    removed: int

    def __str__(self) -> str:
        told = f"{self.runs} of at most {KEPT_RUNS} runs, {self.bytes / 1e6:,.0f} MB"
        return told + (f"; {self.removed} not used for longest removed" if self.removed else "")


def run_folder(home: Path, run: str) -> Path:
    """Return the folder of one run."""
    return home / "training" / "forecasters" / run


def run_lock(home: Path, run: str) -> Path:
    """Return the file that whoever trains or judges the forecaster of one run holds."""
    return home / "training" / "turns" / run


def note_use(folder: Path, data: TrainingSet) -> None:
    """Write down that this run is the one that is asked for of this training set, and of its settings."""
    write_json(folder / RECORD_FILE, _asked_for(data) | {"used_at": wall_clock_ms()})


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed run left half-written; for whoever holds its lock."""
    for file in folder.glob(".*"):
        if file.is_file():
            file.unlink(missing_ok=True)


def newest_run(home: Path, data: TrainingSet) -> Path | None:
    """Return the folder of the run that was asked for last with this training set and its settings; None before."""
    runs = [folder for folder in _runs(home) if _is_of(folder, data)]
    if runs:
        return max(runs, key=_used_at)
    former = run_folder(home, data.manifest.training_set_id)  # where versions before this layout had it
    try:
        return former if load_meta(former).config == data.manifest.config else None
    except ForecasterError:
        return None


def begun_not_ended(home: Path, data: TrainingSet) -> bool:
    """Tell whether the newest run of a training set stands at a checkpoint that it could go on from.

    One that diverged has ended: it would do so again.
    """
    folder = newest_run(home, data)
    return folder is not None and (folder / CHECKPOINT_FILE).is_file() and not _ended(folder)


def judged_run(home: Path, weights_sha256: str) -> Path | None:
    """Return the folder of a judged forecaster by its weights; None where it is no longer kept."""
    found = [f for f in _runs(home) if kept_metrics(f).get("weights_sha256") == weights_sha256]
    return max(found, key=_used_at, default=None)


def keep_few(home: Path) -> Kept:
    """Remove what was not used for longest beyond `KEPT_RUNS` folders, but nothing that somebody is at work on."""
    runs = sorted(_runs(home), key=_used_at, reverse=True)
    gone = [folder for folder in runs[KEPT_RUNS:] if remove_at_turn(run_lock(home, folder.name), folder)]
    for turn in (home / "training" / "turns").glob("*"):
        if not (nothing := run_folder(home, turn.name)).exists():
            remove_at_turn(turn, nothing)
    stay = [folder for folder in runs if folder not in gone]
    return Kept(len(stay), sum(_size(folder) for folder in stay), len(gone))


def _runs(home: Path) -> Iterator[Path]:
    return (home / "training" / "forecasters").glob("[!.]*")


def _asked_for(data: TrainingSet) -> dict[str, Any]:
    manifest = data.manifest
    return {"training_set_id": manifest.training_set_id, "config": manifest.config.model_dump(mode="json")}


def _is_of(folder: Path, data: TrainingSet) -> bool:
    record = read_json(folder / RECORD_FILE) or {}
    return _asked_for(data).items() <= record.items()


def _used_at(folder: Path) -> int:
    """When a run was last asked for, ms; of a folder without a record, when something last appeared in it."""
    record = read_json(folder / RECORD_FILE)
    try:
        return int(record["used_at"]) if record else folder.stat().st_mtime_ns // 1_000_000
    except (FileNotFoundError, KeyError):  # somebody removed it a moment ago; or the record is another's
        return 0


def _ended(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (META_FILE, DIVERGED_FILE))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
