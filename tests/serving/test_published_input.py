"""Sweeps read the published panel where it is current: the same bits, and the store is not asked for bars."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from assets.klines import PUBLISHED_BARS
from kernels.catalogue import default_features
from market.store import KlineStore
from serving.bundle import load_bundle
from serving.inputs import read_panels
from serving.intervals import history_bars
from serving.sweep import sweep
from training.config import ForecasterConfig

STEP = 300_000


@pytest.fixture
def store(home, bars):
    with KlineStore.open(home) as opened:
        opened.write("5m", bars)
        yield opened


def same(a, b) -> bool:
    return (
        np.array_equal(a.open_time, b.open_time)
        and (a.symbols, a.interval, list(a.columns)) == (b.symbols, b.interval, list(b.columns))
        and all(
            np.ascontiguousarray(a.columns[name]).tobytes() == b.columns[name].tobytes() for name in a.columns
        )
    )


def test_a_published_panel_gives_the_same_bits(store, home, bars, make_bundle, monkeypatch) -> None:
    make_bundle()
    bundle = load_bundle(home)
    symbols = bars["symbol"].unique(maintain_order=True).to_list()
    end = int(bars["open_time"].max()) + STEP
    for names, stop in ((symbols, end), (symbols[::-3], end), (symbols, end - 3 * STEP)):
        (from_store,) = read_panels(store, bundle, "5m", names, stop)
        store.publish_panel("5m", symbols, 1_200)
        with monkeypatch.context() as patch:
            patch.setattr(KlineStore, "panel", None)  # the store's bars are not needed
            (published,) = read_panels(store, bundle, "5m", names, stop)
        assert len(published.open_time) == history_bars(bundle.feature_names, bundle.window)
        assert same(from_store, published)
        (home / "panels" / "5m.panel").unlink()


def test_a_panel_that_is_stale_or_too_small_is_left_alone(store, home, bars, make_bundle) -> None:
    make_bundle()
    bundle = load_bundle(home)
    symbols = bars["symbol"].unique(maintain_order=True).to_list()
    end = int(bars["open_time"].max()) + STEP
    store.publish_panel("5m", symbols, 1_200)
    revised = bars.filter(pl.col("open_time") == end - STEP).with_columns(close=pl.col("open"))
    store.write("5m", revised)
    (panel,) = read_panels(store, bundle, "5m", symbols, end)
    assert (panel.columns["close"][-1] == panel.columns["open"][-1]).all(), "the revised bars"
    store.publish_panel("5m", symbols, history_bars(bundle.feature_names, bundle.window) - 1)
    assert same(panel, read_panels(store, bundle, "5m", symbols, end)[0])
    store.publish_panel("5m", symbols[1:], 1_200)
    assert same(panel, read_panels(store, bundle, "5m", symbols, end)[0])


def test_a_sweep_is_the_same_with_and_without(store, home, bars, make_bundle) -> None:
    make_bundle()
    symbols = bars["symbol"].unique(maintain_order=True).to_list()
    now = int(bars["open_time"].max()) + STEP + 1_234
    without = sweep(store, home, symbols=symbols, now_ms=now)
    store.publish_panel("5m", symbols, 1_200)
    having = sweep(store, home, symbols=symbols, now_ms=now)
    assert without.frame.equals(having.frame) and without.frame.height == len(symbols)
    assert having.skipped == without.skipped == {}


def test_what_is_published_is_enough_for_the_default_model() -> None:
    assert history_bars(default_features(), ForecasterConfig().window) <= PUBLISHED_BARS
