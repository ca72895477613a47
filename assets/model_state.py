"""Where training keeps its work, and which model this home serves."""

from __future__ import annotations

from pathlib import Path

from assets.state_files import read_json


def training_set_folder(home: Path) -> Path:
    """Return the folder of the newest training set."""
    return home / "training" / "set"


def judgement_folder(home: Path, judgement_id: str) -> Path:
    """Return the folder of one finished judgement."""
    return home / "training" / "judgements" / judgement_id


def judgement_workdir(home: Path, training_set_id: str) -> Path:
    """Return the folder in which a judgement is made, so that an interrupted one goes on; gone when it is made."""
    return home / "training" / "judgements" / f".work-{training_set_id}"


def judgement_lock(home: Path, training_set_id: str) -> Path:
    """Return the file that whoever makes a judgement on one training set holds."""
    return home / "training" / "turns" / f"judgement-{training_set_id}"


def newest_report(home: Path) -> Path | None:
    """Return the report of the newest judgement, a page for a browser; None before the first one."""
    found = (home / "training" / "judgements").glob("[!.]*/report.html")
    return max(found, key=lambda file: file.stat().st_mtime_ns, default=None)


def current_model_version(home: Path) -> str | None:
    """Return the version that predictions are made with, or None before the first export."""
    record = read_json(home / "models" / "current")
    return str(record["version"]) if record and "version" in record else None
