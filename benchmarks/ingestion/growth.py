"""How time grows with the number of symbols and with the length of the history: ratios of time per row.

A ratio of 1 is linear growth, below 1 is better. They are of CPU time of all threads: other programs disturb it least.
`growth_..._panel` and `growth_..._sweep` are of the whole time, since neither has more to do with a longer history.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.ingestion.made_bars import DAY_MS, START_MS, BarMaker, names
from benchmarks.ingestion.measure import Figures, Timing, middle, scratch_folder, timed
from benchmarks.ingestion.scans import COLUMNS, made_bars, tidy
from market.intervals import interval_ms
from market.store import KlineStore

INTERVAL = "5m"


@dataclass(frozen=True)
class Sizes:
    """From few symbols to many over `days`, and with `steady` symbols from `days` to `many_days`."""

    few: int = 50
    many: int = 500
    steady: int = 50
    days: int = 30
    many_days: int = 730
    repeats: int = 7


FULL, QUICK = Sizes(), Sizes(few=5, many=50, steady=5, days=30, many_days=240, repeats=3)


@dataclass(frozen=True)
class _Costs:
    """CPU seconds per row of writing and scanning, CPU seconds of a panel and of a sweep per symbol.

    `tidied` is writing with all that follows: the bars of a long history are written twice, since months that are over
    are merged once; those of a month are not.
    """

    write: float
    tidied: float
    scan: float
    panel: float
    sweep: float


def run(sizes: Sizes, scratch: Path) -> Figures:
    """Measure three stores; the first is the small end of both comparisons where the symbols are as many."""
    few = _costs(sizes.few, sizes.days, sizes.repeats, scratch)
    many = _costs(sizes.many, sizes.days, sizes.repeats, scratch)
    short = few if sizes.steady == sizes.few else _costs(sizes.steady, sizes.days, sizes.repeats, scratch)
    long = _costs(sizes.steady, sizes.many_days, sizes.repeats, scratch)
    return {
        "growth_interval": INTERVAL,
        "growth_symbols_from_to": f"{sizes.few} to {sizes.many}",
        "growth_days_from_to": f"{sizes.days} to {sizes.many_days}",
        "growth_symbols_write": many.write / few.write,
        "growth_symbols_scan": many.scan / few.scan,
        "growth_symbols_panel": many.panel / few.panel * sizes.few / sizes.many,
        "growth_symbols_sweep": many.sweep / few.sweep,
        "growth_history_write": long.write / short.write,
        "growth_history_tidied": long.tidied / short.tidied,
        "growth_history_scan": long.scan / short.scan,
        "growth_history_panel": long.panel / short.panel,
        "growth_history_sweep": long.sweep / short.sweep,
    }


def _costs(count: int, days: int, repeats: int, scratch: Path) -> _Costs:
    symbols, length = names(count), interval_ms(INTERVAL)
    with scratch_folder(scratch, "growth") as home, KlineStore.open(home, grace_ms=0) as store:
        writing, rows = Timing(), 0
        for bars in made_bars(symbols, INTERVAL, days):
            rows += bars.height
            with timed() as took:
                store.write(INTERVAL, bars, bulk=True, trusted=True)
            writing += took
        with timed() as tidying:
            tidy(store, days)
        maker = BarMaker(symbols, INTERVAL, START_MS + days * DAY_MS, seed=2)
        sweeps, scans, panels = [], [], []
        store.write(INTERVAL, maker.next(DAY_MS // length // 2))  # some of today is hot
        for _ in range(repeats):
            bars = maker.next(1)
            with timed() as took:
                store.write(INTERVAL, bars)
            sweeps.append(took.cpu_s)
            with timed() as took:
                store.scan(INTERVAL, columns=COLUMNS).collect()
            scans.append(took.cpu_s)
            with timed() as took:
                store.panel(INTERVAL, symbols, bars=500)
            panels.append(took.cpu_s)
    written = writing.cpu_s / rows
    return _Costs(
        written, written + tidying.cpu_s / rows, middle(scans) / rows, middle(panels), middle(sweeps) / count
    )
