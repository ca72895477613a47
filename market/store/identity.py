"""Opening a store: folders, tables, schema version, and what ties Parquet files to their database."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

from market.errors import MarketError
from market.store.database import Database
from market.store.schema import META, SCHEMA_VERSION

_MARK = "store.json"


def make_folders(home: Path) -> Path:
    """Make home and its folder of Parquet files, and return the latter."""
    folder = home / "klines"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", str(folder))
    except OSError as error:
        raise MarketError(
            f"the store's folder cannot be made or written: {error.strerror}",
            where=str(error.filename or folder),
            remedy="set a home that this user may write to (KLINECAST_HOME), or mend its owner and mode",
        ) from error
    return folder


def prepare(database: Database, folder: Path) -> None:
    """Create the tables where there are none, and refuse a database or a folder that does not belong here."""
    version, store_id = _stamp(database)
    if version is None:
        database.create(database.ddl)
        _write_stamp(database)
        version, store_id = _stamp(database)
    if version != str(SCHEMA_VERSION):
        raise MarketError(
            f"the store has schema version {version}, this code knows version {SCHEMA_VERSION}",
            where=database.where,
            remedy="use the klinecast version that wrote it, or a newer one; nothing was changed",
        )
    _match_folder(folder, str(store_id), database.where)


def _stamp(database: Database) -> tuple[str | None, str | None]:
    """Return schema version and store id as the database has them; the version is None in a new database."""
    with database.read() as transaction:
        if not transaction.has_table(META.name):
            return None, None
        values: dict[str, str] = dict(transaction.execute("SELECT name, value FROM store_meta"))
    return values.get("schema_version"), values.get("store_id")


def _write_stamp(database: Database) -> None:
    with database.write("schema") as transaction:
        rows = [("schema_version", str(SCHEMA_VERSION)), ("store_id", uuid.uuid4().hex)]
        transaction.upsert(META, rows, rewrite=False)


def _match_folder(folder: Path, store_id: str, where: str) -> None:
    """Mark a new folder as this database's: to any other one, its files would look abandoned."""
    mark = folder / _MARK
    if mark.is_file():
        found = json.loads(mark.read_text()).get("store_id")
    else:
        found = None if any(folder.glob("*/*.parquet")) else store_id
        if found:
            staged = folder / f".{_MARK}-{os.getpid()}-{os.urandom(4).hex()}"
            staged.write_text(json.dumps({"store_id": store_id}) + "\n")
            staged.replace(mark)
    if found != store_id:
        raise MarketError(
            "the Parquet files in this home belong to another database",
            where=f"{folder} and {where}",
            remedy="give this database a home of its own, or name the one that wrote the files",
        )
