"""What a kline (bar) is: its columns, their types, and the checks that one must pass before it is stored."""

from __future__ import annotations

from typing import Final

import polars as pl

from market.errors import MarketError
from market.intervals import grid_origin, interval_ms
from market.sound_bars import ROUNDING, all_sound, in_order

KLINE_COLUMNS: Final[tuple[str, ...]] = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_buy_base",
    "taker_buy_quote",
)
"""Columns in the order of the exchange protocol; times are ms since the epoch, volume is in base currency."""

_INTEGERS: Final = frozenset({"open_time", "close_time", "trades"})

KLINE_SCHEMA: Final = pl.Schema(
    {name: pl.Int64() if name in _INTEGERS else pl.Float64() for name in KLINE_COLUMNS}
)
"""Types of a single symbol's bars. `OPTIONAL_COLUMNS` may hold nulls, the others may not."""

OPTIONAL_COLUMNS: Final[tuple[str, ...]] = (
    "close_time",
    "quote_volume",
    "trades",
    "taker_buy_base",
    "taker_buy_quote",
)
"""Null in bars of sources that only know open, high, low, close and volume."""

MEANINGS: Final = {
    "symbol": "as the exchange writes it, such as BTCUSDT",
    "open_time": "first millisecond of the bar, ms since the epoch, UTC",
    "open": "price of the first trade, in the quote currency",
    "high": "highest price, in the quote currency",
    "low": "lowest price, in the quote currency",
    "close": "price of the last trade, in the quote currency",
    "volume": "traded amount, in the base currency",
    "close_time": "last millisecond of the bar, ms since the epoch, UTC",
    "quote_volume": "traded amount, in the quote currency; null where the source does not tell it",
    "trades": "number of trades; null where the source does not tell it",
    "taker_buy_base": "of the volume, what takers bought, in the base currency; null where the source does not tell it",
    "taker_buy_quote": "the same in the quote currency; null where the source does not tell it",
}
"""What each column of `STORED_SCHEMA` holds."""

STORED_COLUMNS: Final[tuple[str, ...]] = ("symbol", *KLINE_COLUMNS)
STORED_SCHEMA: Final = pl.Schema({"symbol": pl.String(), **KLINE_SCHEMA})
"""Types of bars of several symbols: `symbol` comes first."""

_PRICES: Final = ("open", "high", "low", "close")
_AMOUNTS: Final = ("volume", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote")


OF_TRADES: Final = ("quote_volume", "trades", "taker_buy_base", "taker_buy_quote")
"""What a source of plain OHLCV bars does not know."""


def unknown_as_null(frame: pl.DataFrame) -> pl.DataFrame:
    """Give null for what a source of plain OHLCV bars cannot know but must send as a number.

    There is no volume without a trade: a row with volume and no trades says that its trades, its quote volume and
    its takers are not known. Zeros would pass for market data.
    """
    unknown = (frame["trades"] == 0) & (frame["volume"] > 0)
    if not unknown.any():
        return frame
    return frame.with_columns(pl.when(~unknown).then(pl.col(name)).alias(name) for name in OF_TRADES)


def validate(frame: pl.DataFrame, interval: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split bars into those that may be stored and those that may not.

    Parameters
    ----------
    frame : pl.DataFrame
        `KLINE_COLUMNS` in any order of rows; without a `symbol` column all rows are one symbol's.
    interval : str
        The interval that every row claims to be a bar of.

    Returns
    -------
    good, refused : pl.DataFrame
        `good` has the columns of `frame` in canonical order, sorted by symbol and open_time, each open_time
        once; `refused` has them too, in the order given, with the first `reason` that applies. Of identical
        rows the first is good and the others are refused as "duplicate"; rows that are sound by themselves
        but contradict each other are all refused, since nothing tells which one is right. A null close_time
        is no fault: it follows from open_time.

    Raises
    ------
    MarketError
        If a column is missing or cannot be read as its type, or if the interval is unknown.
    """
    length = interval_ms(interval)
    keys = ["symbol", "open_time"] if "symbol" in frame.columns else ["open_time"]
    frame = conform(frame)
    if all_sound(frame, length, grid_origin(interval)):
        ordered = frame if in_order(frame) else frame.sort(keys)
        if ordered is frame or in_order(ordered):
            return ordered, frame.clear().hstack([pl.Series("reason", [], pl.String)])
    judged = frame.with_columns(reason=_first_reason(_row_checks(keys, interval, length)))
    sound = pl.col("reason").is_null()
    if judged.select((sound & pl.struct(keys).is_duplicated()).any()).item():
        judged = judged.with_columns(reason=pl.coalesce("reason", _repeat_reason(keys)))
    return judged.filter(sound).drop("reason").sort(keys), judged.filter(~sound)


def conform(frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` with exactly the kline columns, in order and typed; symbol first if it has one.

    Raises
    ------
    MarketError
        If a column is missing or cannot be read as its type.
    """
    schema = STORED_SCHEMA if "symbol" in frame.columns else KLINE_SCHEMA
    if frame.schema == schema:
        return frame
    absent = [name for name in schema if name not in frame.columns]
    if absent:
        raise MarketError(
            f"kline frame lacks {', '.join(absent)}",
            where=f"columns {', '.join(frame.columns) or 'none'}",
            remedy=f"give all of {', '.join(schema)}; nulls may stand in {', '.join(OPTIONAL_COLUMNS)}",
        )
    try:
        return frame.select(pl.col(name).cast(kind) for name, kind in schema.items())
    except pl.exceptions.PolarsError as error:
        raise MarketError(
            f"kline frame has values of the wrong type: {str(error).splitlines()[0]}",
            where=f"types {dict(frame.schema)}",
            remedy="times and trades are 64-bit integers (ms since the epoch), all else 64-bit floats",
        ) from error


def _first_reason(checks: list[tuple[pl.Expr, str]]) -> pl.Expr:
    """Return the reason of the first check that fails, null where none does."""
    return pl.coalesce(
        pl.when(failed.fill_null(False)).then(pl.lit(reason, dtype=pl.String)) for failed, reason in checks
    )


def _repeat_reason(keys: list[str]) -> pl.Expr:
    """Judge sound rows that share a key; unsound ones, which carry a `reason`, speak against nothing."""
    group = [*keys, "reason"]
    contents = pl.struct(name for name in KLINE_COLUMNS if name not in keys)
    contradicted = contents.n_unique().over(group) > 1
    repeat = pl.int_range(pl.len()).over(group) > 0
    return _first_reason(
        [(contradicted, "contradicts another row of the same open_time"), (repeat, "duplicate")]
    )


def _row_checks(keys: list[str], interval: str, length: int) -> list[tuple[pl.Expr, str]]:
    open_time, high, low, volume = pl.col("open_time"), pl.col("high"), pl.col("low"), pl.col("volume")
    no_key = pl.any_horizontal(pl.col(key).is_null() for key in keys)
    if "symbol" in keys:
        no_key = no_key | (pl.col("symbol") == "")
    not_finite = pl.any_horizontal(
        *(pl.col(name).is_null() | ~pl.col(name).is_finite() for name in (*_PRICES, "volume")),
        *(~pl.col(name).is_finite().fill_null(True) for name in _AMOUNTS),
    )
    body = (pl.col("open"), pl.col("close"))
    ceiling = volume * (1 + ROUNDING)
    return [
        (no_key, "no symbol or open_time"),
        ((open_time - grid_origin(interval)) % length != 0, f"open_time is not on the {interval} grid"),
        (pl.col("close_time") != open_time + length - 1, f"close_time is not open_time + {length - 1}"),
        (not_finite, "a price or amount is missing or not finite"),
        (pl.min_horizontal(*_PRICES) <= 0, "a price is not positive"),
        ((high < pl.max_horizontal(*body, low)), "high is below open, close or low"),
        ((low > pl.min_horizontal(*body)), "low is above open or close"),
        (pl.any_horizontal(pl.col(name) < 0 for name in _AMOUNTS), "a volume or count is negative"),
        (pl.col("taker_buy_base") > ceiling, "taker_buy_base exceeds volume"),
        (
            pl.col("taker_buy_quote") > pl.col("quote_volume") * (1 + ROUNDING),
            "taker_buy_quote exceeds quote_volume",
        ),
    ]
