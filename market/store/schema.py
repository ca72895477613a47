"""The tables of the store: one definition for SQLite and PostgreSQL, and the version written beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCHEMA_VERSION: Final = 3
"""Version of the tables and of the Parquet files; raised when an older reader would misread."""

_TEXT, _INT, _FLOAT = "TEXT", "BIGINT", "DOUBLE PRECISION"


@dataclass(frozen=True)
class Table:
    """A table with its key.

    Parameters
    ----------
    name : str
        Name in the database.
    columns : dict[str, str]
        Column name to SQL type, in order.
    key : tuple[str, ...]
        Primary key.
    optional : tuple[str, ...]
        Columns that may be null.
    first_stays : tuple[str, ...]
        Columns that keep the value of the first write when a row is written again.
    """

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]
    optional: tuple[str, ...] = ()
    first_stays: tuple[str, ...] = ()

    @property
    def rewritten(self) -> tuple[str, ...]:
        """Columns that a later write of the same key replaces."""
        return tuple(name for name in self.columns if name not in self.key and name not in self.first_stays)

    def ddl(self, suffix: str) -> str:
        """Return the statement that creates this table; `suffix` is what the dialect appends to it."""
        lines = [
            f"{name} {kind}{'' if name in self.optional else ' NOT NULL'}"
            for name, kind in self.columns.items()
        ]
        lines.append(f"PRIMARY KEY ({', '.join(self.key)})")
        return f"CREATE TABLE IF NOT EXISTS {self.name} (\n  " + ",\n  ".join(lines) + f"\n){suffix}"


META: Final = Table("store_meta", {"name": _TEXT, "value": _TEXT}, ("name",))
SYMBOLS: Final = Table("symbols", {"symbol_id": _INT, "symbol": _TEXT}, ("symbol_id",))

# Which bars are stored, hot and cold together, as spans: what is missing is found without touching a bar.
COVERAGE: Final = Table(
    "coverage",
    {"kline_interval": _TEXT, "symbol_id": _INT, "start_time": _INT, "end_time": _INT},
    ("kline_interval", "symbol_id", "start_time"),
)
GAPS: Final = Table(
    "gaps",
    {
        "kline_interval": _TEXT,
        "symbol_id": _INT,
        "start_time": _INT,
        "end_time": _INT,
        "cause": _TEXT,
        "checked_time": _INT,
        "sources": _TEXT,
        "found_time": _INT,
    },
    ("kline_interval", "symbol_id", "start_time"),
)
QUARANTINE: Final = Table(
    "quarantine",
    {
        "kline_interval": _TEXT,
        "symbol": _TEXT,
        "fingerprint": _TEXT,
        "open_time": _INT,
        "reason": _TEXT,
        "source": _TEXT,
        "seen_time": _INT,
        "raw": _TEXT,
    },
    ("kline_interval", "symbol", "fingerprint"),
    optional=("open_time",),
)
UNIVERSE: Final = Table("universe", {"position": _INT, "symbol": _TEXT, "attributes": _TEXT}, ("position",))
PREDICTIONS: Final = Table(
    "predictions",
    {
        "kline_interval": _TEXT,
        "open_time": _INT,
        "symbol": _TEXT,
        "horizon": _INT,
        "model_version": _TEXT,
        "p_down": _FLOAT,
        "p_flat": _FLOAT,
        "p_up": _FLOAT,
        "q10": _FLOAT,
        "q50": _FLOAT,
        "q90": _FLOAT,
        "created_at": _INT,
        "volatility": _FLOAT,
    },
    ("kline_interval", "open_time", "symbol", "horizon", "model_version"),
    optional=("volatility",),
    first_stays=("created_at",),
)
FLAGS: Final = Table(
    "flags",
    {
        "kline_interval": _TEXT,
        "open_time": _INT,
        "symbol": _TEXT,
        "detector": _TEXT,
        "score": _FLOAT,
        "created_at": _INT,
    },
    ("kline_interval", "open_time", "symbol", "detector"),
    first_stays=("created_at",),
)

# The manifest: a Parquet file is part of the store only while it is named here. It holds bars of one interval that
# open in [start_time, end_time); files may lie over the same times. `file_symbols` tells the spans of whole days of a
# symbol that a file holds all cold bars of: no two of them overlap, so that each bar is in one file only.
# `retired_files` are superseded ones that a reader may still be reading.
FILES: Final = Table(
    "files",
    {
        "file_id": _INT,
        "kline_interval": _TEXT,
        "start_time": _INT,
        "end_time": _INT,
        "path": _TEXT,
        "rows": _INT,
        "bytes": _INT,
        "sha256": _TEXT,
        "schema_version": _INT,
        "created_at": _INT,
    },
    ("file_id",),
)
FILE_SYMBOLS: Final = Table(
    "file_symbols",
    {
        "kline_interval": _TEXT,
        "symbol_id": _INT,
        "start_time": _INT,
        "end_time": _INT,
        "file_id": _INT,
    },
    ("kline_interval", "symbol_id", "start_time"),
)
RETIRED: Final = Table("retired_files", {"path": _TEXT, "retired_at": _INT}, ("path",))

# Raised with every change of a day's hot bars, so that a roll sees whether the day changed while it wrote the
# file.
DAY_VERSIONS: Final = Table(
    "day_versions",
    {"kline_interval": _TEXT, "start_time": _INT, "version": _INT},
    ("kline_interval", "start_time"),
)

# A row for every transaction that changed bars: a panel published at one revision knows what it lacks at a later
# one.
CHANGES: Final = Table(
    "changes",
    {"kline_interval": _TEXT, "revision": _INT, "start_time": _INT, "end_time": _INT},
    ("kline_interval", "revision"),
)

# Archive files that bars were taken from, or that the archive host did not have: market/store/archived.py.
ARCHIVES: Final = Table(
    "archives",
    {
        "path": _TEXT,
        "symbol": _TEXT,
        "kline_interval": _TEXT,
        "start_time": _INT,
        "end_time": _INT,
        "sha256": _TEXT,
        "rows": _INT,
        "versions": _INT,
        "stored_time": _INT,
        "checked_time": _INT,
    },
    ("path",),
)

# Bars built from finer ones, until the exchange has confirmed them: market/store/derived.py.
DERIVED: Final = Table(
    "derived",
    {
        "kline_interval": _TEXT,
        "symbol_id": _INT,
        "day": _INT,
        "start_time": _INT,
        "end_time": _INT,
        "checked_time": _INT,
    },
    ("kline_interval", "symbol_id", "day"),
    first_stays=("checked_time",),
)

HOT_BARS: Final = Table(
    "klines_hot",
    {"kline_interval": _TEXT, "open_time": _INT, "symbol_id": _INT},
    ("kline_interval", "open_time", "symbol_id"),
)
"""The key of hot bars; the database makes this table its own way."""

TABLES: Final = (
    META,
    SYMBOLS,
    COVERAGE,
    GAPS,
    QUARANTINE,
    UNIVERSE,
    PREDICTIONS,
    FLAGS,
    FILES,
    FILE_SYMBOLS,
    RETIRED,
    DAY_VERSIONS,
    CHANGES,
    ARCHIVES,
    DERIVED,
)
"""Every table but `klines_hot`, which SQLite and PostgreSQL keep each in its own way."""

INDEXES: Final = (
    "CREATE UNIQUE INDEX IF NOT EXISTS symbols_by_name ON symbols (symbol)",
    # A write looks for ledgered gaps that its bars may heal; at the live end there is none after the bar.
    "CREATE INDEX IF NOT EXISTS gaps_by_end ON gaps (kline_interval, end_time)",
    "CREATE UNIQUE INDEX IF NOT EXISTS files_by_path ON files (path)",
    "CREATE INDEX IF NOT EXISTS files_by_end ON files (kline_interval, end_time)",
    "CREATE INDEX IF NOT EXISTS file_symbols_by_file ON file_symbols (file_id)",
    "CREATE INDEX IF NOT EXISTS file_symbols_by_end ON file_symbols (kline_interval, end_time)",
)
