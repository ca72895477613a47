"""Checkpoints of a training run: one .npz file per run, replaced whole after each epoch.

It holds all that the next epoch depends on: every variable of the network (weights, running averages and the
state of each dropout generator), of the optimizer, the best weights so far, and the history. Nothing in it is
pickled.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from training.data.array_files import DamagedArraysError, read_arrays
from training.files import publish
from training.network.forecaster_files import EpochRecord

CHECKPOINT_FILE = "checkpoint.npz"
DIVERGED_FILE = "diverged.txt"
"""Beside the checkpoint of a run that is over because it diverged."""
_STATE = "state"

log = logging.getLogger(__name__)


class RunState(BaseModel):
    """Where a run stands; `run_id` is a hash of everything that its result depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    history: tuple[EpochRecord, ...] = ()
    best_epoch: int = 0
    finished: bool = False

    @property
    def best_loss(self) -> float:
        """Validation loss of the best epoch; infinite before the first."""
        return self.history[self.best_epoch - 1].validation_loss if self.best_epoch else float("inf")


def save_checkpoint(workdir: Path, state: RunState, variables: dict[str, list[Any]]) -> None:
    """Write the state and named groups of variables (or arrays) in their order."""
    arrays = {f"{group}/{i:04d}": np.asarray(v) for group, vs in variables.items() for i, v in enumerate(vs)}
    arrays[_STATE] = np.frombuffer(state.model_dump_json().encode(), np.uint8)
    part = workdir / f".{CHECKPOINT_FILE}.{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        publish(part, workdir / CHECKPOINT_FILE)
    finally:
        part.unlink(missing_ok=True)


def load_checkpoint(workdir: Path, run_id: str) -> tuple[RunState, dict[str, list[np.ndarray]]] | None:
    """Read the checkpoint of this run; None if there is none, or only one of another run or a damaged one."""
    path = workdir / CHECKPOINT_FILE
    if not path.is_file():
        return None
    try:
        arrays = read_arrays(path)
        state = RunState.model_validate_json(arrays.pop(_STATE).tobytes())
    except (DamagedArraysError, KeyError, ValidationError) as error:
        log.warning("the checkpoint %s is damaged (%s); training starts over", path, error)
        return None
    if state.run_id != run_id:
        log.info("the checkpoint %s is of other settings or data; training starts over", path)
        return None
    groups: dict[str, list[np.ndarray]] = {}
    for name in sorted(arrays):
        groups.setdefault(name.split("/")[0], []).append(arrays[name])
    return state, groups
