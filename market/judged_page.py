"""A page that was judged by itself, or a gap that was found without one, on its way into the store."""

from __future__ import annotations

from dataclasses import dataclass

from market.ingest_plan import Gap, Series, count_bars
from market.klines import KLINE_SCHEMA, STORED_SCHEMA
from market.page_verdict import REFUSED_SCHEMA, Absence, Verdict
from market.wire import KlinePage


@dataclass(frozen=True, slots=True)
class JudgedPage:
    """A page with its verdict; what else there is to know of it is as for `market.page_batch.PlainPage`."""

    series: Series
    page: KlinePage
    verdict: Verdict
    gaps: list[Gap]
    pending: int

    @classmethod
    def of_gap(cls, series: Series, gap: Gap, settled: int | None = None) -> JudgedPage:
        """Return what ledgers an absent span that was found without a page; by default this settles it."""
        _, start, end, _ = gap
        nothing = KlinePage(KLINE_SCHEMA.to_frame(), requests=0)
        if settled is None:
            settled = count_bars([(start, end)], series.length)
        verdict = Verdict(
            STORED_SCHEMA.to_frame(),
            REFUSED_SCHEMA.to_frame(),
            Absence([(start, end)], None, None),
            end,
            settled,
            known=0,
        )
        return cls(series, nothing, verdict, [gap], pending=0)

    @property
    def start(self) -> int:
        """Open time of the first bar that may be stored, ms."""
        return self.covered_until if self.verdict.absence.first is None else self.verdict.absence.first

    @property
    def covered_until(self) -> int:
        """The page settles everything before this time (ms)."""
        return self.verdict.covered_until

    @property
    def settled(self) -> int:
        """How many missing bars it settles."""
        return self.verdict.settled

    @property
    def known(self) -> int:
        """Good bars that were not missing."""
        return self.verdict.known
