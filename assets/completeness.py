"""Whether all that an ingest asked for came: the check `complete` of asset `klines`, and how it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from market.wording import count

if TYPE_CHECKING:
    from market.ingest_report import IngestReport

NAME = "complete"
MISSED = "did_not_come"
"""Metadata of the check: symbol and intervals, and why not."""

SPEC = dg.AssetCheckSpec(
    NAME,
    asset="klines",
    description="The last ingest could bring every series that it was asked for as far as the exchange has it; what"
    " failed is asked for again in the next one.",
)


def completeness(report: IngestReport) -> dg.AssetCheckResult:
    """Judge an ingest: a warning where series failed, since the others came, and the next run may bring these.

    A symbol that is not traded any more, and bars that an exchange does not have, are no failure: they stand in the gap
    ledger with their cause.
    """
    failed, missed = len(report.failures), _missed(report)
    return dg.AssetCheckResult(
        check_name=NAME,
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "summary": f"{failed:,} of {count(len(report.series), 'series', 'series')} failed"
            if failed
            else f"all of {count(len(report.series), 'series', 'series')}",
            MISSED: dg.MetadataValue.json(missed),
        },
    )


def _missed(report: IngestReport) -> dict[str, str]:
    """Say of each symbol which intervals failed, and why: a reason that they share is told once."""
    found: dict[tuple[str, str], list[str]] = {}
    for failure in report.failures:
        told = f"{failure.error.what}; {failure.error.remedy}"
        found.setdefault((failure.symbol, told), []).append(failure.interval)
    return {f"{symbol} {' '.join(intervals)}": told for (symbol, told), intervals in found.items()}


def did_not_come(result: Any) -> dict[str, str]:
    """Return what a run that succeeded could not bring, and why, from its results in Dagster."""
    found: dict[str, str] = {}
    for evaluation in result.get_asset_check_evaluations():
        if evaluation.check_name == NAME and not evaluation.passed:
            found |= evaluation.metadata[MISSED].value
    return found
