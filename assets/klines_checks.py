"""Checks of what the store holds: the bars themselves, their gaps, how fresh they are, and whether intervals agree."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets.gap_ledger import ledger_metadata, read_ledger
from assets.metadata import table, utc
from assets.platform import Platform
from market.consistency import DIFFERENCE_SCHEMA, compare_stored, pairs_to_compare
from market.ingest_plan import settled_before
from market.intervals import interval_ms
from market.klines import validate
from market.store import KlineStore

_STALE_AFTER_BARS = 3
_SLACK_MS = 120_000  # an ingest a minute, and a minute to do it
_BARS_AT_ONCE = 1_000_000  # about 100 MB
_DAY_MS = interval_ms("1d")

_SPECS = [
    dg.AssetCheckSpec(
        "no_duplicates", asset="klines", blocking=True, description="One bar per symbol and open time."
    ),
    dg.AssetCheckSpec(
        "in_order", asset="klines", blocking=True, description="Open times lie on the interval's grid."
    ),
    dg.AssetCheckSpec(
        "sane_prices",
        asset="klines",
        blocking=True,
        description="Prices and volumes of every bar fit together.",
    ),
    dg.AssetCheckSpec(
        "known_gaps", asset="klines", description="Every missing bar stands in the gap ledger."
    ),
    dg.AssetCheckSpec(
        "fresh",
        asset="klines",
        description="The newest bar of every followed symbol that is traded closed at most"
        f" {_STALE_AFTER_BARS} bars ago.",
    ),
    dg.AssetCheckSpec(
        "intervals_agree",
        asset="klines",
        description="The bars of an interval are what the finer bars of the same time add up to.",
    ),
]


class KlinesChecksConfig(dg.Config):
    """How far back to look; by default at every bar."""

    days: int | None = Field(
        default=None, ge=1, description="Only bars of the last so many days; unset: all."
    )
    agreement_days: int = Field(
        default=1, ge=1, description="Hold intervals against each other over the last so many days."
    )


@dataclass
class _Findings:
    """What was found wrong, by check: one row an interval, with the count and the first place."""

    rows: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    more: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, check: str, interval: str, bars: int, wrong: int, first: str = "") -> None:
        self.rows.setdefault(check, []).append(
            {"interval": interval, "bars": bars, "wrong": wrong, "threshold": 0, "first": first}
        )

    def result(self, check: str, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
        rows = self.rows.get(check, [])
        if check == "fresh":  # it judges series by their newest bar
            rows = [
                {("series" if name == "bars" else name): value for name, value in row.items()} for row in rows
            ]
        wrong = sum(int(str(row["wrong"])) for row in rows)
        metadata: dict[str, Any] = {"wrong": wrong, "threshold": 0, "by_interval": table(pl.DataFrame(rows))}
        return dg.AssetCheckResult(
            asset_key="klines",
            check_name=check,
            passed=wrong == 0,
            severity=severity,
            metadata=metadata | self.more.get(check, {}),
        )


@dg.multi_asset_check(specs=_SPECS)
def klines_checks(config: KlinesChecksConfig, platform: Platform) -> Iterator[dg.AssetCheckResult]:
    """Read the stored bars once, some symbols at a time, and judge them."""
    findings = _Findings()
    with platform.store() as store:
        now = platform.now_ms()
        since = 0 if config.days is None else now - config.days * _DAY_MS
        intervals = platform.settings.intervals
        for interval in intervals:
            holes = _check_bars(store, interval, since, findings)
            _check_gaps(store, interval, (since, now), holes, findings)
            _check_freshness(store, interval, now, findings)
        _check_agreement(store, intervals, now - config.agreement_days * _DAY_MS, now, findings)
        findings.more["known_gaps"] = ledger_metadata(read_ledger(store))
    for spec in _SPECS:
        severity = dg.AssetCheckSeverity.ERROR if spec.blocking else dg.AssetCheckSeverity.WARN
        yield findings.result(spec.name, severity)


def _check_bars(store: KlineStore, interval: str, since: int, findings: _Findings) -> dict[str, int]:
    """Judge the bars that open at or after `since`; returns how many are missing between those of each symbol."""
    step = interval_ms(interval)
    holes: dict[str, int] = {}
    bars = twice = astray = refused = 0
    first_astray = first_refused = ""
    for symbols in _batches(store.spans(interval)):
        batch = store.scan(interval, symbols, start=since).collect()
        spacing = pl.when(pl.col("symbol") == pl.col("symbol").shift(1)).then(pl.col("open_time").diff())
        spaced = batch.select("symbol", "open_time", spacing=spacing)
        unfit, bad = spaced.filter(pl.col("spacing") % step != 0), validate(batch, interval)[1]
        bars, twice = bars + batch.height, twice + int((spaced["spacing"] == 0).sum())
        astray, first_astray = astray + unfit.height, first_astray or _place(unfit)
        refused, first_refused = refused + bad.height, first_refused or _place(bad, "reason")
        jumps = spaced.filter(pl.col("spacing") > step).group_by("symbol")
        holes |= dict(jumps.agg((pl.col("spacing") // step - 1).sum()).iter_rows())
    findings.add("no_duplicates", interval, bars, twice)
    findings.add("in_order", interval, bars, astray, first_astray)
    findings.add("sane_prices", interval, bars, refused, first_refused)
    return holes


def _batches(spans: pl.DataFrame) -> Iterator[list[str]]:
    """Part the symbols of an interval so that each part has about `_BARS_AT_ONCE` bars, or is one symbol."""
    part: list[str] = []
    bars = 0
    for symbol, rows in spans.select("symbol", "rows").iter_rows():
        if part and bars + rows > _BARS_AT_ONCE:
            yield part
            part, bars = [], 0
        part.append(symbol)
        bars += rows
    if part:
        yield part


def _check_gaps(
    store: KlineStore, interval: str, span: tuple[int, int], holes: dict[str, int], findings: _Findings
) -> None:
    """Hold what is missing, by the coverage and by the bars themselves, against the ledger.

    A bar that an exchange may still publish, some moments after its close, is no gap yet.
    """
    spans = store.spans(interval)
    step = interval_ms(interval)
    ledger = store.gaps(interval)
    unknown, first = 0, ""
    for symbol, start, last in spans.select("symbol", "first_open_time", "last_open_time").iter_rows():
        begin = max(start, span[0])
        absent = store.missing(symbol, interval, begin, last + step) if begin <= last else []
        spots = [(at, end) for at, end in absent if at < settled_before(span[1], at, step)]
        told = sum((end - at) // step for at, end in spots)
        if symbol in holes:
            pending = sum((end - at) // step for at, end in absent) - told
            told = max(told, holes[symbol] - pending - _ledgered(ledger, symbol, begin, last, step))
        if told:
            unknown += told
            first = first or f"{symbol} from {utc(spots[0][0] if spots else begin)}"
    findings.add("known_gaps", interval, int(spans["rows"].sum()), unknown, first)


def _ledgered(ledger: pl.DataFrame, symbol: str, start: int, last: int, step: int) -> int:
    """Return how many bars of a symbol between two open times the ledger names."""
    rows = ledger.filter(
        (pl.col("symbol") == symbol) & (pl.col("start_time") < last) & (pl.col("end_time") > start)
    )
    clipped = rows.select(pl.min_horizontal("end_time", last) - pl.max_horizontal("start_time", start))
    return int(clipped.to_series().sum()) // step


def _check_agreement(
    store: KlineStore, intervals: Sequence[str], start: int, end: int, findings: _Findings
) -> None:
    different = [DIFFERENCE_SCHEMA.to_frame()]
    for finer, interval in pairs_to_compare(intervals):
        both = set(store.spans(finer)["symbol"]) & set(store.spans(interval)["symbol"])
        found = compare_stored(store, finer, interval, sorted(both), start, end)
        findings.add(
            "intervals_agree",
            f"{interval} against {finer}",
            found.compared,
            found.differing,
            _place(found.differences),
        )
        different.append(found.differences)
    findings.more["intervals_agree"] = {"since": utc(start), "differences": table(pl.concat(different))}


def _check_freshness(store: KlineStore, interval: str, now: int, findings: _Findings) -> None:
    spans, step, universe = store.spans(interval), interval_ms(interval), store.universe()
    if universe.height:  # who is not traded or followed any more has no new bars, and nothing is wrong
        traded = universe.filter(pl.col("status") == "TRADING")["symbol"]
        spans = spans.filter(pl.col("symbol").is_in(traded.to_list()))
    limit = now - (_STALE_AFTER_BARS + 1) * step - _SLACK_MS
    stale = spans.filter(pl.col("last_open_time") < limit)
    first = f"{stale['symbol'][0]} ends at {utc(stale['last_open_time'][0])}" if stale.height else ""
    findings.add("fresh", interval, spans.height, stale.height, first)


def _place(bars: pl.DataFrame, reason: str | None = None) -> str:
    if not bars.height:
        return ""
    said = f": {bars[reason][0]}" if reason else ""
    return f"{bars['symbol'][0]} at {utc(bars['open_time'][0])}{said}"
