"""What the store keeps beside bars: predictions, anomaly flags, quarantined rows and the universe."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from market.errors import MarketError
from market.intervals import interval_ms
from market.store.database import Transaction
from market.store.manifest import now_ms
from market.store.schema import FLAGS, PREDICTIONS, QUARANTINE, UNIVERSE, Table
from market.store.writing import WriteResult

PREDICTION_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "kline_interval": pl.String(),
        "open_time": pl.Int64(),
        "horizon": pl.Int64(),
        "p_down": pl.Float64(),
        "p_flat": pl.Float64(),
        "p_up": pl.Float64(),
        "q10": pl.Float64(),
        "q50": pl.Float64(),
        "q90": pl.Float64(),
        "model_version": pl.String(),
        "created_at": pl.Int64(),
        "volatility": pl.Float64(),
    }
)
PREDICTION_MEANINGS: Final = {
    "symbol": "whose bar it is",
    "kline_interval": "interval of the bar",
    "open_time": "open time of the last closed bar that was read, ms since the epoch, UTC",
    "horizon": "bars ahead that are predicted",
    "p_down": "probability of a fall beyond the flat band",
    "p_flat": "probability of a return within the flat band",
    "p_up": "probability of a rise beyond the flat band",
    "q10": "10 % quantile of the log return over the horizon",
    "q50": "50 % quantile of the log return over the horizon",
    "q90": "90 % quantile of the log return over the horizon",
    "model_version": "version of the model that predicted it",
    "created_at": "when it was predicted, by the exchange's clock, ms since the epoch, UTC",
    "volatility": "root of the summed squared 1-bar log returns over the horizon; null where the model does not"
    " forecast it",
}
"""What each column of `PREDICTION_SCHEMA` holds."""

FLAG_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "kline_interval": pl.String(),
        "open_time": pl.Int64(),
        "detector": pl.String(),
        "score": pl.Float64(),
        "created_at": pl.Int64(),
    }
)
"""One flagged bar by one detector."""

QUARANTINE_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "kline_interval": pl.String(),
        "open_time": pl.Int64(),
        "reason": pl.String(),
        "source": pl.String(),
        "seen_time": pl.Int64(),
        "raw": pl.String(),
    }
)
"""A refused row: why, where from, when first seen (ms), and `raw`, the row itself as JSON."""


def write_predictions(transaction: Transaction, frame: pl.DataFrame) -> WriteResult:
    """Store predictions; one that is stored already stays as it is, since it is what was predicted."""
    rows = _rows(frame, PREDICTIONS, PREDICTION_SCHEMA)
    inserted = transaction.upsert(PREDICTIONS, rows, rewrite=False)
    return WriteResult(inserted, 0, len(rows) - inserted)


def write_flags(transaction: Transaction, frame: pl.DataFrame) -> WriteResult:
    """Store flags; a stored one takes the new score and keeps its first `created_at`."""
    rows = _rows(frame, FLAGS, FLAG_SCHEMA)
    inserted = transaction.upsert(FLAGS, rows, rewrite=False)
    updated = transaction.upsert(FLAGS, rows)
    return WriteResult(inserted, updated, len(rows) - inserted - updated)


def read(
    transaction: Transaction,
    table: Table,
    schema: pl.Schema,
    conditions: dict[str, object],
    symbols: Sequence[str] | None,
) -> pl.DataFrame:
    """Return a table's rows in key order that meet all conditions (SQL with ``?``) with a value."""
    asked = {condition: value for condition, value in conditions.items() if value is not None}
    where = " AND ".join(asked) or "1 = 1"
    rows = transaction.execute(
        f"SELECT {', '.join(schema)} FROM {table.name} WHERE {where}"  # noqa: S608 - names and conditions of ours
        f" ORDER BY {', '.join(table.key)}",
        tuple(asked.values()),
    )
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame if symbols is None else frame.filter(pl.col("symbol").is_in(list(symbols)))


def write_quarantine(transaction: Transaction, interval: str, refused: pl.DataFrame, source: str) -> int:
    """Keep refused rows with their reason, each once; returns how many were new."""
    if absent := [name for name in ("symbol", "reason") if name not in refused.columns]:
        raise MarketError(
            f"quarantine frame lacks {', '.join(absent)}",
            where=f"columns {', '.join(refused.columns) or 'none'}",
            remedy="give the refused rows of market.klines.validate, with their symbol",
        )
    seen, rows = now_ms(), {}
    for row in refused.iter_rows(named=True):
        symbol, reason = str(row.get("symbol") or ""), str(row.get("reason") or "")
        raw = json.dumps({k: _plain(v) for k, v in row.items() if k not in ("symbol", "reason")})
        fingerprint = hashlib.sha256("\0".join((reason, source, raw)).encode()).hexdigest()[:32]
        open_time = row.get("open_time")
        time = open_time if isinstance(open_time, int) else None
        rows[symbol, fingerprint] = (interval, symbol, fingerprint, time, reason, source, seen, raw)
    return transaction.upsert(QUARANTINE, list(rows.values()), rewrite=False)


def write_universe(transaction: Transaction, frame: pl.DataFrame) -> None:
    """Replace the universe; the order of rows is kept, and so are columns of any plain type."""
    if "symbol" not in frame.columns or frame["symbol"].is_duplicated().any() or frame["symbol"].has_nulls():
        raise MarketError(
            "universe frame lacks a symbol in some row, or names one twice",
            where=f"columns {', '.join(frame.columns) or 'none'}",
            remedy="give one row a symbol, with column `symbol`",
        )
    transaction.execute("DELETE FROM universe")
    rows = [
        (at, row["symbol"], json.dumps({k: _plain(v) for k, v in row.items() if k != "symbol"}))
        for at, row in enumerate(frame.iter_rows(named=True))
    ]
    transaction.upsert(UNIVERSE, rows)


def read_universe(transaction: Transaction) -> pl.DataFrame:
    """Return the universe as it was written; without rows and with column `symbol` before that."""
    rows = transaction.execute("SELECT symbol, attributes FROM universe ORDER BY position")
    if not rows:
        return pl.DataFrame(schema={"symbol": pl.String()})
    return pl.DataFrame(
        [{"symbol": symbol, **json.loads(attributes)} for symbol, attributes in rows],
        infer_schema_length=None,
    )


def _rows(frame: pl.DataFrame, table: Table, schema: pl.Schema) -> list[tuple[Any, ...]]:
    """Return a frame's rows in the table's column order, checked: nothing missing, null or not finite."""
    if "created_at" not in frame.columns:
        frame = frame.with_columns(created_at=pl.lit(now_ms()))
    where, remedy = f"frame for table {table.name}", f"give columns {', '.join(schema)} without nulls"
    frame = frame.with_columns(
        pl.lit(None).alias(name) for name in table.optional if name not in frame.columns
    )
    if absent := [name for name in schema if name not in frame.columns]:
        raise MarketError(f"column {', '.join(absent)} is missing", where=where, remedy=remedy)
    try:
        frame = frame.select(pl.col(name).cast(schema[name]) for name in table.columns)
    except pl.exceptions.PolarsError as error:
        raise MarketError(f"wrong type: {str(error).splitlines()[0]}", where=where, remedy=remedy) from error
    for name, series in zip(frame.columns, frame, strict=True):
        unknown = series.has_nulls() and name not in table.optional
        if unknown or (series.dtype.is_float() and not series.is_finite().all()):
            raise MarketError(
                f"column {name} holds nulls or values that are not finite", where=where, remedy=remedy
            )
    for interval in frame["kline_interval"].unique():
        interval_ms(interval)
    if frame.select(pl.struct(table.key).is_duplicated().any()).item():
        raise MarketError(
            f"a key is given twice ({', '.join(table.key)})", where=where, remedy="give each row once"
        )
    return frame.rows()


def _plain(value: object) -> object:
    """Return a value as strict JSON can hold it: NaN and infinities by name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
