"""Checks of what the store holds: the bars themselves, their gaps, and how fresh they are."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg
import polars as pl

from assets.metadata import table, utc
from assets.platform import Platform
from market.intervals import interval_ms
from market.klines import validate
from market.store import KlineStore

_STALE_AFTER_BARS = 3
_SLACK_MS = 120_000  # an ingest a minute, and a minute to do it

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
        "fresh", asset="klines", description=f"The newest bar closed at most {_STALE_AFTER_BARS} bars ago."
    ),
]


@dataclass
class _Findings:
    """What was found wrong, by check: one row an interval, with the count and the first place."""

    rows: dict[str, list[dict[str, object]]] = field(default_factory=dict)

    def add(self, check: str, interval: str, bars: int, wrong: int, first: str = "") -> None:
        self.rows.setdefault(check, []).append(
            {"interval": interval, "bars": bars, "wrong": wrong, "threshold": 0, "first": first}
        )

    def result(self, check: str, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
        rows = self.rows.get(check, [])
        wrong = sum(int(str(row["wrong"])) for row in rows)
        return dg.AssetCheckResult(
            asset_key="klines",
            check_name=check,
            passed=wrong == 0,
            severity=severity,
            metadata={"wrong": wrong, "threshold": 0, "by_interval": table(pl.DataFrame(rows))},
        )


@dg.multi_asset_check(specs=_SPECS)
def klines_checks(platform: Platform) -> Iterator[dg.AssetCheckResult]:
    """Read every stored bar once and judge it."""
    findings = _Findings()
    with platform.store() as store:
        now = platform.now_ms()
        for interval in platform.settings.intervals:
            _check_bars(store, interval, findings)
            _check_gaps(store, interval, findings)
            _check_freshness(store, interval, now, findings)
    for spec in _SPECS:
        severity = dg.AssetCheckSeverity.ERROR if spec.blocking else dg.AssetCheckSeverity.WARN
        yield findings.result(spec.name, severity)


def _check_bars(store: KlineStore, interval: str, findings: _Findings) -> None:
    bars = store.scan(interval).collect()
    step = interval_ms(interval)
    twice = bars.height - bars.select("symbol", "open_time").n_unique() if bars.height else 0
    astray = bars.filter(pl.col("open_time").diff().over("symbol").fill_null(step) % step != 0)
    refused = validate(bars, interval)[1]
    findings.add("no_duplicates", interval, bars.height, twice)
    findings.add("in_order", interval, bars.height, astray.height, _place(astray))
    findings.add("sane_prices", interval, bars.height, refused.height, _place(refused, "reason"))


def _check_gaps(store: KlineStore, interval: str, findings: _Findings) -> None:
    spans = store.spans(interval)
    step = interval_ms(interval)
    unknown, first = 0, ""
    for symbol, start, last in spans.select("symbol", "first_open_time", "last_open_time").iter_rows():
        for begin, end in store.missing(symbol, interval, start, last + step):
            unknown += (end - begin) // step
            first = first or f"{symbol} from {utc(begin)}"
    findings.add("known_gaps", interval, int(spans["rows"].sum()), unknown, first)


def _check_freshness(store: KlineStore, interval: str, now: int, findings: _Findings) -> None:
    spans, step = store.spans(interval), interval_ms(interval)
    limit = now - (_STALE_AFTER_BARS + 1) * step - _SLACK_MS
    stale = spans.filter(pl.col("last_open_time") < limit)
    first = f"{stale['symbol'][0]} ends at {utc(stale['last_open_time'][0])}" if stale.height else ""
    findings.add("fresh", interval, spans.height, stale.height, first)


def _place(bars: pl.DataFrame, reason: str | None = None) -> str:
    if not bars.height:
        return ""
    said = f": {bars[reason][0]}" if reason else ""
    return f"{bars['symbol'][0]} at {utc(bars['open_time'][0])}{said}"
