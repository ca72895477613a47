"""The ledger of trials: every forecaster that was ever begun here, whatever became of it.

Who tries often finds something good by chance; whoever judges the best of many has to know how many there were. So a
trial is written down before it begins, and once more when it ends. A trial without an end was interrupted, and counts.
The same training begun again after an interruption is the same trial.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from training import ledger

Clock = Callable[[], int]
"""Gives the time, ms since epoch."""

State = Literal["begun", "complete", "pruned", "failed", "interrupted"]
LEDGER = Path("training") / "trials.jsonl"
"""Where the ledger lies in a home."""


class Trial(BaseModel):
    """One trial as it stands in the ledger.

    Attributes
    ----------
    trial
        Its name: a hash over everything that it depends on.
    kind
        ``training``, ``search`` or another word for what it was part of.
    state
        ``begun`` also if it was killed.
    at
        When it was begun, ms since epoch, by the exchange's clock.
    ended_at
        When it ended, likewise; None if nobody wrote an end.
    details
        What else was written at its begin and its end: settings, `validation_loss`, `problem`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    trial: str
    kind: str
    state: State
    at: int
    ended_at: int | None = None
    details: dict[str, Any]


def trial_name(*parts: Any) -> str:
    """Name a trial by a hash over what it depends on, given as JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def record_trial(home: Path, trial: str, *, kind: str, state: State, at: int, **details: Any) -> None:
    """Write down that a trial began or ended.

    Parameters
    ----------
    home
        The platform's home folder.
    trial, kind, state
        See `Trial`.
    at
        When it began or ended: now, ms since epoch, by the exchange's clock.
    **details
        JSON values.

    Raises
    ------
    LedgerError
        The ledger cannot be written.
    """
    ledger.append(
        Path(home) / LEDGER, {"trial": trial, "kind": kind, "state": state, "at": at, "details": details}
    )


def read_trials(home: Path) -> list[Trial]:
    """Return every trial once, in the order in which they began, with its last state and all its details.

    Raises
    ------
    LedgerError
        An entry is no trial: somebody else wrote it.
    """
    found: dict[str, Trial] = {}
    for line in ledger.read_as(Path(home) / LEDGER, Trial):
        entry = line.model_copy(update={"ended_at": None if line.state == "begun" else line.at})
        if former := found.get(entry.trial):
            details = {**former.details, **entry.details}
            entry = entry.model_copy(update={"at": former.at, "details": details})
        found[entry.trial] = entry
    return list(found.values())


def count_trials(home: Path) -> int:
    """Return how many forecasters were tried here: complete, pruned, failed and interrupted ones alike.

    Raises
    ------
    LedgerError
        An entry is no trial: somebody else wrote it.
    """
    return len(read_trials(home))


@contextmanager
def trial_of(
    home: Path, trial: str, *, kind: str, now: Clock, settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Write down a trial around the work that it consists of, each line with its time.

    Parameters
    ----------
    home, trial, kind
        As `record_trial` takes them.
    now
        Gives the time, ms since epoch, by the exchange's clock.
    settings
        What is tried.

    Yields
    ------
    dict
        Fill in what is to be written at its end, such as `validation_loss`.
    """
    record_trial(home, trial, kind=kind, state="begun", at=now(), settings=dict(settings))
    found: dict[str, Any] = {}
    try:
        yield found
    except Exception as error:
        record_trial(home, trial, kind=kind, state="failed", at=now(), problem=_first_line(error))
        raise
    except BaseException:
        record_trial(home, trial, kind=kind, state="interrupted", at=now())
        raise
    record_trial(home, trial, kind=kind, state="complete", at=now(), **found)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
