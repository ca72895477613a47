"""The klines store: hot bars in SQLite or PostgreSQL, cold ones in Parquet, behind one door."""

from market.store.compaction import CompactionReport
from market.store.gaps import GAP_SCHEMA, LEDGER_SCHEMA
from market.store.panel import PANEL_COLUMNS, Panel
from market.store.published import part_of
from market.store.removal import RemovalReport
from market.store.roll import RollReport
from market.store.store import GRACE_MS, SPANS_SCHEMA, VIEWS, KlineStore
from market.store.tables import FLAG_SCHEMA, PREDICTION_SCHEMA, QUARANTINE_SCHEMA
from market.store.writing import WriteResult

__all__ = [
    "FLAG_SCHEMA",
    "GAP_SCHEMA",
    "GRACE_MS",
    "LEDGER_SCHEMA",
    "PANEL_COLUMNS",
    "PREDICTION_SCHEMA",
    "QUARANTINE_SCHEMA",
    "SPANS_SCHEMA",
    "VIEWS",
    "CompactionReport",
    "KlineStore",
    "Panel",
    "RemovalReport",
    "RollReport",
    "WriteResult",
    "part_of",
]
