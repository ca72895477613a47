"""Opening a store: folders, tables, schema version, and what ties Parquet files to their database."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

from market.errors import MarketError
from market.store import migrations
from market.store.database import Database
from market.store.objects import ObjectStore
from market.store.schema import META, SCHEMA_VERSION

_MARK = "store.json"


def make_home(home: Path, *, with_files: bool) -> None:
    """Make the folder of all state, and in it the folder of the Parquet files if they rest there."""
    folder = home / "klines" if with_files else home
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


def refuse_lost_database(path: Path, objects: ObjectStore) -> None:
    """Refuse to begin an SQLite database beside files that belong to another one, before it is there."""
    if not path.exists() and _read_mark(objects) is not None:
        raise MarketError(
            "the database of this store is not here: its bars are in PostgreSQL, or klines.sqlite3 was moved away",
            where=f"{path}, for the files in {objects.where}",
            remedy="set KLINECAST_DATABASE_URL to the database that wrote the files, or put klines.sqlite3 back",
        )


def prepare(database: Database, objects: ObjectStore) -> None:
    """Create the tables where there are none, bring older ones up to date, and refuse what does not belong here."""
    version, store_id = _stamp(database)
    if version is None:
        database.create(database.ddl)
        _write_stamp(database)
        version, store_id = _stamp(database)
    if version is not None and version.isdecimal() and int(version) < SCHEMA_VERSION:
        migrations.migrate(database)
        version, store_id = _stamp(database)
    if version != str(SCHEMA_VERSION):
        raise MarketError(
            f"the store has schema version {version}, this code knows version {SCHEMA_VERSION}",
            where=database.where,
            remedy="use the klinecast version that wrote it, or a newer one; nothing was changed",
        )
    _refuse_lost_files(database, objects)
    _match_files(objects, str(store_id), database.where)


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


def _refuse_lost_files(database: Database, objects: ObjectStore) -> None:
    """Refuse a place without a mark if there are files already: they lie elsewhere, and would be missed there."""
    if objects.exists(_MARK):
        return
    with database.read() as transaction:
        [(count,)] = transaction.execute("SELECT count(*) FROM files")
    if count:
        raise MarketError(
            f"the {count} Parquet files that {database.where} names are not here: there is no {_MARK}",
            where=objects.where,
            remedy="set KLINECAST_OBJECTS_URL to where they are (unset: klines/ under KLINECAST_HOME), or copy all"
            f" files and {_MARK} here",
        )


def _match_files(objects: ObjectStore, store_id: str, where: str) -> None:
    """Mark a new folder or bucket as this database's: to any other one, its files would look abandoned."""
    if not objects.exists(_MARK) and not any(item.name.endswith(".parquet") for item in objects.list()):
        content = {"store_id": store_id, "schema_version": SCHEMA_VERSION}
        objects.create(_MARK, (json.dumps(content) + "\n").encode())
    mark = _read_mark(objects) or {}
    if mark.get("schema_version", 1) > SCHEMA_VERSION:
        raise MarketError(
            f"the Parquet files have schema version {mark['schema_version']}, this code knows {SCHEMA_VERSION}",
            where=objects.where,
            remedy="use the klinecast version that wrote them, or a newer one; nothing was changed",
        )
    if mark.get("store_id") != store_id:
        raise MarketError(
            "the Parquet files in this home belong to another database",
            where=f"{objects.where} and {where}",
            remedy="give this database a home of its own, or name the one that wrote the files",
        )


def _read_mark(objects: ObjectStore) -> dict[str, Any] | None:
    """Return what the mark says, None where there is none.

    Raises
    ------
    MarketError
        If it is no mark: the file is damaged, or a web server that knows nothing of the bucket has answered.
    """
    if not objects.exists(_MARK):
        return None
    try:
        mark = json.loads(objects.get(_MARK))
    except ValueError:
        mark = None
    if not isinstance(mark, dict):
        raise MarketError(
            f"{_MARK} is not what a store has written there",
            where=objects.where,
            remedy="if this is a bucket, AWS_ENDPOINT_URL most likely names another web server: give that of the S3"
            " API; else put the file back from a backup",
        )
    return mark
