"""What an ingest did: per symbol and interval, and in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import polars as pl

from market.client_errors import UnknownSymbolError
from market.errors import MarketError
from market.wording import count


@dataclass(slots=True)
class SeriesTally:
    """Counts of one symbol on one interval; all but the last three are bars (rows).

    Attributes
    ----------
    asked : int
        Missing when the ingest began.
    received : int
        Rows the exchange sent.
    inserted, updated, unchanged : int
        What became of the good ones; an updated bar was stored before with other values.
    refused : int
        Rows quarantined.
    gaps : int
        Bars newly ledgered as absent.
    still_absent : int
        Bars ledgered as absent before, looked at again, and not there yet.
    derived : int
        Bars built from stored 1m bars instead of being asked for.
    confirmed : int
        Bars of derived stretches that were compared with the exchange's; those that differed count as `updated` too.
    failed : int
        Bars ledgered because requests for them failed for good: asked for again next time.
    jumps : int
        Inserted bars that open at more than twice or less than half of the close right before: stored, and worth a
        look.
    pending : int
        Bars that have closed so recently that their absence is not believed yet: asked for again next time.
    requests, weight : int
        Answers received, retries included, and their weight.
    seconds : float
        From the first request to the last durable write.
    """

    symbol: str
    interval: str
    asked: int = 0
    received: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    gaps: int = 0
    still_absent: int = 0
    derived: int = 0
    confirmed: int = 0
    failed: int = 0
    jumps: int = 0
    pending: int = 0
    requests: int = 0
    weight: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SeriesFailure:
    """Why a symbol's interval is not complete; what was received before is stored."""

    symbol: str
    interval: str
    error: MarketError


REVISION_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "kline_interval": pl.String(),
        "open_time": pl.Int64(),
        "close_before": pl.Float64(),
        "close": pl.Float64(),
        "volume_before": pl.Float64(),
        "volume": pl.Float64(),
    }
)
"""Bars that were stored before with other values."""


@dataclass(slots=True)
class IngestReport:
    """What an ingest did.

    Attributes
    ----------
    now : int
        The exchange's clock when it began, ms: bars closed by then were asked for.
    series : list of SeriesTally
        One for each symbol and interval, also where nothing was missing.
    failures : list of SeriesFailure
        What could not be completed.
    revisions : pl.DataFrame
        `REVISION_SCHEMA`.
    requests, weight, retries : int
        Everything that was sent, the question for the time and failed attempts included.
    stored_by_others : int
        Bars counted as inserted here that another process had stored in the meantime.
    seconds : float
        Wall time.
    waiting_s : float
        That part of it in which nothing was being read or written: the exchange was waited for.
    """

    now: int
    series: list[SeriesTally] = field(default_factory=list)
    failures: list[SeriesFailure] = field(default_factory=list)
    revisions: pl.DataFrame = field(default_factory=REVISION_SCHEMA.to_frame)
    requests: int = 0
    weight: int = 0
    retries: int = 0
    stored_by_others: int = 0
    seconds: float = 0.0
    waiting_s: float = 0.0

    def total(self, column: str) -> int:
        """Return the sum of a count over all series, e.g. ``report.total("inserted")``."""
        return sum(getattr(tally, column) for tally in self.series)

    def to_frame(self) -> pl.DataFrame:
        """Return one row per symbol and interval, with the counts of `SeriesTally` and the failure if any."""
        failed = {(failure.symbol, failure.interval): failure.error.what for failure in self.failures}
        names = [entry.name for entry in fields(SeriesTally)]
        rows = [[getattr(tally, name) for name in names] for tally in self.series]
        causes = pl.Series(
            "failure", [failed.get((t.symbol, t.interval)) for t in self.series], dtype=pl.String
        )
        kinds = {
            name: pl.String()
            if name in ("symbol", "interval")
            else pl.Float64()
            if name == "seconds"
            else pl.Int64()
            for name in names
        }
        frame = pl.DataFrame(rows, schema=kinds, orient="row")
        return frame.rename({"interval": "kline_interval"}).with_columns(causes)

    def __str__(self) -> str:
        done = self.total("inserted")
        rate = done / self.seconds if self.seconds > 0 else 0.0
        parts = (
            f"{count(done, 'bar')} stored",
            *([f"{self.total('derived'):,} derived"] if self.total("derived") else []),
            *([f"{self.total('confirmed'):,} confirmed"] if self.total("confirmed") else []),
            f"{self.total('updated'):,} revised",
            f"{self.total('gaps'):,} newly ledgered as absent",
            *([f"{self.total('still_absent'):,} still absent"] if self.total("still_absent") else []),
            f"{count(self.total('refused'), 'row')} refused",
            f"{len(self.failures):,} of {len(self.series):,} series failed",
            f"{count(self.requests, 'request')} of {self.weight:,} weight in {self.seconds:.1f} s",
            f"{rate:,.0f} bars/s",
        )
        return ", ".join(parts)


class IngestFailedError(MarketError):
    """Nothing that was asked for could be completed."""


def all_failed(failures: Sequence[SeriesFailure]) -> MarketError:
    """Return the one error for an ingest in which every series failed."""
    kinds = {failure.error.what: failure.error for failure in failures}
    first = failures[0].error
    if len(kinds) == 1:
        return first
    if all(isinstance(error, UnknownSymbolError) for error in kinds.values()):
        remedies = "; ".join(
            f"{failure.symbol}: {failure.error.remedy}" for failure in _one_a_symbol(failures)
        )
        names = ", ".join(repr(failure.symbol) for failure in _one_a_symbol(failures))
        return UnknownSymbolError(f"the exchange has no symbol {names}", where=first.where, remedy=remedies)
    more = "; ".join(f"{f.symbol} {f.interval}: {f.error.what}" for f in failures[:5])
    rest = f"; and {len(failures) - 5} more" if len(failures) > 5 else ""
    return IngestFailedError(
        f"none of the {len(failures)} series could be ingested: {more}{rest}",
        where=first.where,
        remedy=first.remedy,
    )


def _one_a_symbol(failures: Sequence[SeriesFailure]) -> list[SeriesFailure]:
    return list({failure.symbol: failure for failure in failures}.values())
