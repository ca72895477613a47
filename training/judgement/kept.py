"""Judgements that are there already: found by what they were made from, and held against their hashes."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from training.code_identity import identity
from training.config import ForecasterConfig
from training.data.training_set import TrainingSet
from training.errors import EvaluationError
from training.files import file_sha256, write_atomically
from training.judgement.html import render_html
from training.judgement.results import JUDGEMENT_FILE, REPORT_FILE, About, Judgement
from training.judgement.settings import JudgementSettings

RECORD_FILE = "record.json"
_FILES = (JUDGEMENT_FILE, REPORT_FILE)

log = logging.getLogger(__name__)


class Record(BaseModel):
    """What a judgement was made from, what it is about, and its files.

    Attributes
    ----------
    made_from
        Hash of data, settings and code, see `made_from`.
    about
        What its report says at the top.
    files
        Name to SHA-256.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_from: str
    about: About
    files: dict[str, str]


def made_from(data: TrainingSet, config: ForecasterConfig, settings: JudgementSettings) -> str:
    """Hash of all that a judgement depends on."""
    facts = (config.model_dump(mode="json"), settings.model_dump(mode="json"))
    return identity("judgement", data.manifest.training_set_id, *facts)


def write_judgement(folder: Path, found: Judgement, about: About | None = None) -> None:
    """Write a judgement into a folder, as a report and as JSON, which is there last."""
    write_atomically(folder / REPORT_FILE, render_html(found, about).encode())
    write_atomically(folder / JUDGEMENT_FILE, found.model_dump_json(indent=1).encode())


def write_kept(folder: Path, found: Judgement, about: About, made: str) -> None:
    """Write a judgement into a folder, and what it was made from."""
    write_judgement(folder, found, about)
    files = {name: file_sha256(folder / name) for name in _FILES}
    record = Record(made_from=made, about=about, files=files)
    write_atomically(folder / RECORD_FILE, record.model_dump_json(indent=1).encode())


def find_kept(judgements: Path, made: str) -> tuple[Path, Judgement, Record] | None:
    """Find a judgement that was made from the same, the newest of several.

    Parameters
    ----------
    judgements
        Folder of judgements.
    made
        From `made_from`.

    Returns
    -------
    (Path, Judgement, Record) or None
        Its folder and what is there; None where there is none whose files are whole.
    """
    found = []
    for folder in judgements.glob("[!.]*"):
        try:
            record = Record.model_validate_json((folder / RECORD_FILE).read_bytes())
        except (OSError, ValidationError):
            continue
        if record.made_from == made:
            found.append((record.about.judged_at, folder, record))
    for _, folder, record in sorted(found, reverse=True, key=lambda one: one[0]):
        try:
            if all(file_sha256(folder / name) == record.files[name] for name in _FILES):
                return folder, Judgement.load(folder), record
        except (OSError, KeyError, EvaluationError):
            pass
        log.warning("the judgement in %s is damaged", folder)
    return None
