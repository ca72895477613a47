"""The last 500 bars of 500 symbols as a dense panel: from the published file, and from the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.ingestion.hot_stores import INTERVAL, HotStores
from benchmarks.ingestion.measure import Figures, percentile
from market.store import KlineStore, Panel


@dataclass(frozen=True)
class Sizes:
    """How many bars of all symbols, and how often each way is measured."""

    bars: int = 500
    repeats: int = 20


FULL, QUICK = Sizes(), Sizes(bars=150, repeats=7)
_NAMES = {"sqlite": "", "postgres": "_postgres"}


def run(sizes: Sizes, scratch: Path, hot: HotStores) -> Figures:
    """Read the same panel both ways on each database, and require that they are the same."""
    figures: Figures = {
        "panel_bars": sizes.bars,
        "panel_symbols": len(hot.symbols),
        "panel_hot_bars": hot.bars,
    }
    for kind, store in hot.stores.items():
        figures |= {f"{name}{_NAMES[kind]}_ms": value for name, value in _one(sizes, hot, store).items()}
    return figures


def _one(sizes: Sizes, hot: HotStores, store: KlineStore) -> dict[str, float]:
    def from_store() -> Panel:
        return store.panel(INTERVAL, hot.symbols, bars=sizes.bars)

    def published() -> Panel:
        found = store.published_panel(INTERVAL)
        if found is None:
            raise SystemExit("the published panel is stale, though nothing was written since")
        return found

    started = time.perf_counter()
    store.publish_panel(INTERVAL, hot.symbols, bars=sizes.bars)
    publishing = (time.perf_counter() - started) * 1e3
    _require_same(from_store(), published())
    slow, fast = _times(from_store, sizes.repeats), _times(published, sizes.repeats * 5)
    return {
        "panel_500x500": percentile(slow, 50),
        "panel_500x500_p99": percentile(slow, 99),
        "published_panel": percentile(fast, 50),
        "published_panel_p99": percentile(fast, 99),
        "publish_panel": publishing,
    }


def _times(read: Callable[[], Panel], repeats: int) -> list[float]:
    """Time reading a panel and touching every value of it, since a mapped file is only read then, in ms."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        panel = read()
        for values in panel.columns.values():
            values.sum()
        times.append((time.perf_counter() - started) * 1e3)
    return times


def _require_same(one: Panel, other: Panel) -> None:
    same = one.symbols == other.symbols and np.array_equal(one.open_time, other.open_time)
    for name in one.columns if same else ():
        same = same and np.array_equal(one.columns[name], other.columns[name], equal_nan=True)
    if not same:
        raise SystemExit("the published panel is not the store's")
