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
from training.judgement.results import JUDGEMENT_FILE, REPORT_FILE, Judgement
from training.judgement.settings import JudgementSettings

RECORD_FILE = "record.json"
_FILES = (JUDGEMENT_FILE, REPORT_FILE)

log = logging.getLogger(__name__)


class Record(BaseModel):
    """What a judgement was made from, when, and its files.

    Attributes
    ----------
    made_from
        Hash of data, settings and code, see `made_from`.
    judged_at
        ms since epoch, by the exchange's clock.
    files
        Name to SHA-256.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_from: str
    judged_at: int
    files: dict[str, str]


def made_from(data: TrainingSet, config: ForecasterConfig, settings: JudgementSettings) -> str:
    """Hash of all that a judgement depends on."""
    facts = (config.model_dump(mode="json"), settings.model_dump(mode="json"))
    return identity("judgement", data.manifest.training_set_id, *facts)


def write_record(folder: Path, made: str, *, judged_at: int) -> None:
    """Write down what the judgement in a folder was made from."""
    files = {name: file_sha256(folder / name) for name in _FILES}
    record = Record(made_from=made, judged_at=judged_at, files=files)
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
            found.append((record.judged_at, folder, record))
    for _, folder, record in sorted(found, reverse=True, key=lambda one: one[0]):
        try:
            if all(file_sha256(folder / name) == record.files[name] for name in _FILES):
                return folder, Judgement.load(folder), record
        except (OSError, KeyError, EvaluationError):
            pass
        log.warning("the judgement in %s is damaged", folder)
    return None
