"""From the bytes an exchange sends to typed values, quickly and exactly.

Decimal strings become the nearest float64. A kline row that cannot be read is set aside with its text and the
reason; it does not spoil its page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import polars as pl

from market.kline_scan import Columns, count_of, is_loaded, looks_regular, scan_answer, scan_answers
from market.klines import KLINE_COLUMNS, KLINE_SCHEMA, unknown_as_null

FIELDS: Final = 12
"""Fields of a kline row: `KLINE_COLUMNS` and one that is unused."""

_INTEGER_FIELDS: Final = frozenset(
    field for field, name in enumerate(KLINE_COLUMNS) if KLINE_SCHEMA[name] == pl.Int64
)
_LONGEST_TIME: Final = 20
_DECIMAL: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class NotJsonError(ValueError):
    """The bytes are no JSON, or stop before it ends."""


class ShapeError(ValueError):
    """The bytes are JSON, but not what the protocol has here."""


@dataclass(frozen=True, slots=True)
class MalformedRow:
    """A row that cannot be read: its JSON text, why, and the open time (ms) if at least that is readable."""

    raw: str
    reason: str
    open_time: int | None
    position: int


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a page before it is judged: its rows, and the open times (ms) at its ends.

    The number of rows may be what the ends promise: whoever reads the page finds out.
    """

    rows: int
    first: int
    last: int


class KlinePage:
    """One answer to a klines request.

    Parameters
    ----------
    frame : pl.DataFrame or None
        Readable rows in `KLINE_SCHEMA`, in the order received; None: read from `rows` when they are looked at.
    malformed : tuple of MalformedRow
        The others.
    rows : list or None
        All rows as they were sent, for the quarantine; None: they are in `body`.
    requests, weight : int
        What the answer cost, retries included.

    Attributes
    ----------
    outline : Outline or None
        Of a page that looks regular; None for an empty one too.
    """

    __slots__ = ("_body", "_frame", "_malformed", "_rows", "_scanned", "outline", "requests", "weight")

    def __init__(
        self,
        frame: pl.DataFrame | None,
        malformed: tuple[MalformedRow, ...] = (),
        rows: Sequence[Any] | None = (),
        requests: int = 1,
        weight: int = 0,
        body: bytes = b"",
    ) -> None:
        self._frame, self._malformed, self._rows, self._body = frame, malformed, rows, body
        self.requests, self.weight = requests, weight
        self.outline: Outline | None = None
        self._scanned: Columns | None = None

    @classmethod
    def unscanned(cls, body: bytes, outline: Outline) -> KlinePage:
        """Return a page that is left to the scanner, or to a slower reader, when its rows are looked at."""
        page = cls(None, rows=None, body=body)
        page.outline = outline
        return page

    @classmethod
    def unread(cls, rows: list[Any], outline: Outline) -> KlinePage:
        """Return a page whose rows are read when they are looked at, perhaps with those of other pages."""
        page = cls(None, rows=rows)
        page.outline = outline
        return page

    def at_cost(self, requests: int, weight: int) -> KlinePage:
        """Return this page, with what it cost."""
        self.requests, self.weight = requests, weight
        return self

    def is_json(self) -> bool:
        """Tell whether it is any: a page whose rows nobody has looked at yet may not be."""
        if self._scanned is not None:
            return True
        try:
            return isinstance(self.rows, list)
        except NotJsonError:
            return False

    @property
    def body(self) -> bytes:
        """The answer as it was sent, empty once its rows have been looked at one by one."""
        return self._body if self._rows is None else b""

    @property
    def columns(self) -> Columns | None:
        """Its rows if the scanner can read them: of a regular page, all of which is readable."""
        if self._scanned is None and self._rows is None:
            self._scanned = scan_answer(self._body)
        return self._scanned

    @property
    def count(self) -> int:
        """How many rows were sent; of a page that nobody has read yet, as its outline says."""
        if self._rows is None and self._scanned is not None:
            return self._scanned.rows
        return len(self.rows) if self._rows is not None or self.outline is None else self.outline.rows

    @property
    def frame(self) -> pl.DataFrame:
        """Readable rows, in the order received."""
        if self._frame is None:
            if self.columns is not None:
                self._frame = self.columns.frame()
            else:
                self._frame, self._malformed = read_rows(self.rows)
        return self._frame

    @property
    def malformed(self) -> tuple[MalformedRow, ...]:
        """Rows that cannot be read."""
        return self._malformed if self.frame is not None else ()

    @property
    def rows(self) -> Sequence[Any]:
        """All rows as they were sent."""
        if self._rows is None:
            self._rows = decode(self._body)
        return self._rows


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """One entry of exchangeInfo."""

    symbol: str
    base_asset: str
    quote_asset: str
    status: str


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """The symbols an exchange has, and its request weight per minute if it says so."""

    symbols: list[SymbolInfo]
    weight_per_minute: int | None


TICKER_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "last_price": pl.Float64(),
        "volume": pl.Float64(),
        "quote_volume": pl.Float64(),
        "trades": pl.Int64(),
        "open_time": pl.Int64(),
        "close_time": pl.Int64(),
    }
)
"""Columns of the 24-hour tickers; volumes are in base and in quote currency, times in ms."""

_TICKER_FIELDS: Final = ("symbol", "lastPrice", "volume", "quoteVolume", "count", "openTime", "closeTime")


def decode(body: bytes) -> Any:
    """Return the JSON value in `body`; `NotJsonError` if there is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJsonError(str(error)) from error


def put_off_klines(body: bytes, most: int = 0, length: int = 0) -> KlinePage:
    """Take in a klines answer of which only the ends are looked at: what looks regular is read later, with others.

    What is between the ends may even be no JSON: see `KlinePage.is_json`. If they are as far apart as those of `most`
    bars of `length` ms, it is taken to have as many: to count them costs more than all else that is done here.
    """
    if is_loaded() and (ends := _ends(body)) is not None:
        full = most > 0 and ends[1] - ends[0] == (most - 1) * length
        return KlinePage.unscanned(body, Outline(most if full else _count(body), *ends))
    return parse_klines(body)


def parse_klines(body: bytes) -> KlinePage:
    """Take in a klines answer.

    Raises
    ------
    NotJsonError, ShapeError
        If the body as a whole is not a list of rows.
    """
    if is_loaded() and (ends := _ends(body)) is not None:
        page = KlinePage.unscanned(body, Outline(_count(body), *ends))
        if page.columns is not None:
            return page
    rows = decode(body)
    if not isinstance(rows, list):
        raise ShapeError(f"expected a list of klines, got {_shorten(body)}")
    first, last = (_open_time(row) for row in (rows[:1] + rows[-1:] or [None, None]))
    if first is not None and last is not None:
        return KlinePage.unread(rows, Outline(len(rows), first, last))
    return KlinePage(*read_rows(rows), rows)


def _ends(body: bytes) -> tuple[int, int] | None:
    """Return the first and the last open time, without reading what is between; None if they look irregular."""
    if not looks_regular(body):
        return None
    first, last = body[2:_LONGEST_TIME], body[body.rindex(b"[") + 1 :][:_LONGEST_TIME]
    times = [text.partition(b",")[0] for text in (first, last)]
    return (int(times[0]), int(times[1])) if all(text.isdigit() for text in times) else None


def _count(body: bytes) -> int:
    return count_of(body, b"[") - 1


def read_together(pages: Sequence[KlinePage]) -> pl.DataFrame | None:
    """Read regular pages, one after the other, into one frame (`KLINE_SCHEMA`); None if any row is malformed."""
    bodies = [page.body for page in pages]
    if all(bodies):
        columns = scan_answers(bodies, [page.count for page in pages])
        if columns is not None:
            return columns.frame()
    try:
        frame = _columns([row for page in pages for row in page.rows])
    except NotJsonError:
        return None
    return None if frame is None else unknown_as_null(frame)


def read_rows(rows: Sequence[Any]) -> tuple[pl.DataFrame, tuple[MalformedRow, ...]]:
    """Return the readable ones of rows as the wire has them (lists of 12 fields, decimals as text), and the others."""
    frame = _columns(rows)
    if frame is not None:
        return unknown_as_null(frame), ()
    readable, malformed = _sort_out(rows)
    return unknown_as_null(readable), malformed


def _columns(rows: Sequence[Any]) -> pl.DataFrame | None:
    """Read all rows at once, a column at a time; None if any of them is not as the protocol says."""
    if not rows:
        return KLINE_SCHEMA.to_frame()
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {FIELDS}:
        return None
    series = []
    for field, (name, values) in enumerate(zip(KLINE_COLUMNS, zip(*rows, strict=True), strict=False)):
        column = _column(name, values, int if field in _INTEGER_FIELDS else str)
        if column is None:
            return None
        series.append(column)
    return pl.DataFrame(series)


def _column(name: str, values: Sequence[Any], kind: type) -> pl.Series | None:
    if set(map(type, values)) != {kind}:
        return None
    if kind is int:
        try:
            return pl.Series(name, values, dtype=pl.Int64)
        except (TypeError, OverflowError):  # beyond 64 bits
            return None
    column = pl.Series(name, values, dtype=pl.String).cast(pl.Float64, strict=False)
    return None if column.null_count() or not column.is_finite().all() else column


def _sort_out(rows: Sequence[Any]) -> tuple[pl.DataFrame, tuple[MalformedRow, ...]]:
    """Read rows one by one: the slow way, taken only by a page with something wrong in it."""
    readable, malformed = [], []
    for position, row in enumerate(rows):
        reason = _fault(row)
        if reason is None:
            readable.append(_canonical(row))
        else:
            raw = orjson.dumps(row).decode()
            malformed.append(MalformedRow(raw, reason, _open_time(row), position))
    frame = _columns(readable)
    if frame is None:
        raise ShapeError("rows read one by one cannot be read together")
    return frame, tuple(malformed)


def _fault(row: Any) -> str | None:
    if not isinstance(row, list):
        return f"a row is a list of {FIELDS} fields, this is a {type(row).__name__}"
    if len(row) != FIELDS:
        return f"{len(row)} fields instead of {FIELDS}"
    for field, (name, value) in enumerate(zip(KLINE_COLUMNS, row, strict=False)):
        if field in _INTEGER_FIELDS:
            if type(value) is not int or not -(2**63) <= value < 2**63:
                return f"{name} is not a whole number: {_shorten(repr(value))}"
        elif not _is_decimal(value):
            return f"{name} is not a finite number: {_shorten(repr(value))}"
    return None


def _is_decimal(value: Any) -> bool:
    if type(value) is str:
        return _DECIMAL.fullmatch(value) is not None and math.isfinite(float(value))
    return type(value) in (int, float) and math.isfinite(value)


def _canonical(row: list[Any]) -> list[Any]:
    """Return the row with its decimals as strings: some hosts send them as JSON numbers."""
    return [
        value if field in _INTEGER_FIELDS or type(value) is str else repr(value)
        for field, value in enumerate(row)
    ]


def _open_time(row: Any) -> int | None:
    first = row[0] if isinstance(row, list) and row else None
    return first if type(first) is int and 0 <= first < 2**63 else None


def parse_server_time(body: bytes) -> int:
    """Read the answer of `/time`: ms since the epoch."""
    value = decode(body)
    if not isinstance(value, dict) or type(value.get("serverTime")) is not int:
        raise ShapeError(f"expected serverTime, got {_shorten(body)}")
    return int(value["serverTime"])


def parse_exchange_info(body: bytes) -> ExchangeInfo:
    """Read the answer of `/exchangeInfo`."""
    value = decode(body)
    try:
        symbols = [
            SymbolInfo(
                symbol=entry["symbol"],
                base_asset=entry["baseAsset"],
                quote_asset=entry["quoteAsset"],
                status=entry.get("status") or entry["contractStatus"],  # the latter on coin-margined futures
            )
            for entry in value["symbols"]
        ]
        limits = [
            int(limit["limit"])
            for limit in value.get("rateLimits", [])
            if limit["rateLimitType"] == "REQUEST_WEIGHT"
            and limit["interval"] == "MINUTE"
            and limit["intervalNum"] == 1
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ShapeError(f"expected exchangeInfo, got {_shorten(body)}") from error
    return ExchangeInfo(symbols, min(limits, default=None))


def parse_tickers(body: bytes) -> pl.DataFrame:
    """Read the answer of `/ticker/24hr` for one symbol or many: `TICKER_SCHEMA`."""
    value = decode(body)
    entries = value if isinstance(value, list) else [value]
    try:
        columns = zip(*([entry.get(field) for field in _TICKER_FIELDS] for entry in entries), strict=True)
        named = dict(zip(TICKER_SCHEMA, map(list, columns), strict=True)) if entries else {}
        # Coin-margined futures have baseVolume in place of quoteVolume: null here.
        return pl.DataFrame(named, strict=False).cast(TICKER_SCHEMA) if named else TICKER_SCHEMA.to_frame()
    except (AttributeError, TypeError, pl.exceptions.PolarsError) as error:
        raise ShapeError(f"expected 24-hour tickers, got {_shorten(body)}") from error


def _shorten(text: bytes | str, limit: int = 120) -> str:
    shown = text.decode(errors="replace") if isinstance(text, bytes) else text
    return shown if len(shown) <= limit else f"{shown[:limit]}..."
