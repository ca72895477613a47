"""The registry of models: every published version, which one is champion, and every decision about that.

Versions lie in bundles (training/export/bundle.py) and stay when they lose. The champion is the version that
`models/current` names. Decisions are appended to `models/decisions.jsonl`, each before it takes effect; whoever decides
holds a lock until it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from training import ledger
from training.export.bundle import (
    CURRENT_FILE,
    MODELS_FOLDER,
    BundleError,
    list_bundles,
    read_current,
    read_manifest,
    set_current,
    verify_files,
)
from training.export.manifest import Manifest
from training.lifecycle.trials import count_trials
from training.locks import waiting

DECISIONS = "decisions.jsonl"
_DECIDING = ".deciding.lock"

Reason = Literal[
    "no_champion", "champion_cannot_be_judged", "other_interval", "better", "not_better", "too_few_rows",
    "same_forecaster", "is_champion", "set_aside_by_hand", "chosen_by_hand",
]  # fmt: skip


class Decision(BaseModel):
    """One decision about which version is champion."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    challenger: str = Field(description="version that it is about")
    champion: str | None = Field(description="version that was champion before; None if there was none")
    verdict: Literal["promoted", "kept"] = Field(description="whether the challenger became champion")
    reason: Reason
    words: str
    at: int = Field(description="when, ms since epoch, by the exchange's clock")
    by: str = Field(description="who or what decided")
    trials_in_ledger: int = Field(description="forecasters that had been tried here by then")
    figures: dict[str, Any] = Field(default_factory=dict, description="of the comparison, if there was one")

    @property
    def by_hand(self) -> bool:
        """Whether a person chose."""
        return self.reason == "chosen_by_hand"

    @property
    def looked(self) -> bool:
        """Whether a test was made that could have promoted the challenger."""
        return self.reason in ("better", "not_better")


@dataclass(frozen=True)
class ModelEntry:
    """One version in the registry.

    Attributes
    ----------
    version
        Its name.
    manifest
        None if it cannot be read.
    problem
        What is wrong with it; None if nothing is.
    is_champion
        Whether predictions are made with it.
    decisions
        Those in which it was the challenger, oldest first.
    """

    version: str
    manifest: Manifest | None
    problem: str | None
    is_champion: bool
    decisions: tuple[Decision, ...]


def record_decision(home: Path, decision: Decision) -> None:
    """Append a decision to the ledger; it is on disk when this returns."""
    ledger.append(Path(home) / MODELS_FOLDER / DECISIONS, decision.model_dump(mode="json"))


def read_decisions(home: Path) -> list[Decision]:
    """Return all decisions, oldest first.

    Raises
    ------
    LedgerError
        An entry is no decision: somebody else wrote it.
    """
    return ledger.read_as(Path(home) / MODELS_FOLDER / DECISIONS, Decision)


class Standing(NamedTuple):
    """What a decision is made from: what names the champion, byte by byte, and all decisions."""

    pointer: bytes | None
    decisions: tuple[Decision, ...]


def standing(home: Path) -> Standing:
    """Return how things stand; `deciding` keeps them so."""
    pointer = Path(home) / MODELS_FOLDER / CURRENT_FILE
    decisions = tuple(read_decisions(home))
    return Standing(pointer.read_bytes() if pointer.is_file() else None, decisions)


@contextmanager
def deciding(home: Path) -> Iterator[None]:
    """Hold the lock of all who change the champion; released by the system if the process dies.

    Raises
    ------
    LedgerError
        The lock cannot be taken.
    """
    path = Path(home) / MODELS_FOLDER / _DECIDING
    with ExitStack() as held:
        try:
            held.enter_context(waiting(path))
        except OSError as error:
            raise ledger.LedgerError(
                f"nothing can be decided: {error.strerror or error}",
                where=str(path),
                remedy="free some space, or mend the folder's permissions",
            ) from error
        yield


def champion_version(home: Path) -> str | None:
    """Return the version that predictions are made with; None if there is none that can be found."""
    try:
        current = read_current(home)
    except BundleError:
        return None
    return current.name if current else None


class NoSuchVersionError(BundleError):
    """A name that no published version has, or that several begin with."""


def champion_manifest(home: Path) -> Manifest | None:
    """Return the manifest of the champion; None if there is none, or it cannot be read."""
    version = champion_version(home)
    try:
        return read_manifest(Path(home) / MODELS_FOLDER / version) if version else None
    except BundleError:
        return None


def list_models(home: Path) -> list[ModelEntry]:
    """Return every published version, oldest first, its manifest read but its files not hashed."""
    champion, decisions = champion_version(home), read_decisions(home)
    return [_entry(home, version, champion, decisions) for version in list_bundles(home)]


def find_model(home: Path, version: str) -> ModelEntry:
    """Return one version, its files held against their hashes.

    Parameters
    ----------
    home
        The platform's home folder.
    version
        Its name, or as many letters of its beginning as no other version shares.

    Raises
    ------
    NoSuchVersionError
        No version, or more than one, begins like that.
    """
    every = list_bundles(home)
    found = (
        [version] if version in every else [name for name in every if version and name.startswith(version)]
    )
    if len(found) != 1:
        problem = f"{len(found)} model versions begin with" if found else "there is no model version"
        raise NoSuchVersionError(
            f"{problem} {version!r}",
            where=str(Path(home) / MODELS_FOLDER),
            remedy=f"choose one of: {', '.join(found or every) or 'none is published yet'}",
        )
    entry = _entry(home, found[0], champion_version(home), read_decisions(home))
    try:
        verify_files(Path(home) / MODELS_FOLDER / entry.version)
    except BundleError as error:
        return ModelEntry(entry.version, entry.manifest, error.what, entry.is_champion, entry.decisions)
    return entry


def use_model(home: Path, version: str, *, at: int, by: str) -> Decision:
    """Make a version the champion because a person says so; the one before stays in the registry.

    Parameters
    ----------
    home
        The platform's home folder.
    version
        As `find_model` takes it.
    at, by
        When, by the exchange's clock (ms since epoch), and who.

    Raises
    ------
    BundleError
        There is no such version, or its files are not those that were published; nothing was changed.
    """
    entry = find_model(home, version)
    verify_files(Path(home) / MODELS_FOLDER / entry.version)
    with deciding(home):
        former = champion_version(home)
        decision = Decision(
            challenger=entry.version,
            champion=former,
            verdict="promoted",
            reason="chosen_by_hand",
            words=f"{by} chose {entry.version}" + (f" in place of {former}" if former else ""),
            at=at,
            by=by,
            trials_in_ledger=count_trials(home),
        )
        record_decision(home, decision)
        set_current(home, entry.version)
    return decision


def _entry(home: Path, version: str, champion: str | None, decisions: list[Decision]) -> ModelEntry:
    manifest, problem = None, None
    try:
        manifest = read_manifest(Path(home) / MODELS_FOLDER / version)
    except BundleError as error:
        problem = error.what
    mine = tuple(decision for decision in decisions if decision.challenger == version)
    return ModelEntry(version, manifest, problem, version == champion, mine)
