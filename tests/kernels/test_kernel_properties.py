"""What must hold for any market."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.catalogue import CATALOGUE, default_features
from kernels.compute import run_batch
from kernels.engine import engine_for
from kernels.sample import SamplePanel, sample_panel

PRICES = ("open", "high", "low", "close")
VOLUMES = ("volume", "taker_buy_base")


def features_of(panel: SamplePanel) -> np.ndarray:
    out = np.empty((len(default_features()), *panel.columns["close"].shape))
    run_batch(engine_for(default_features(), dtype=np.float64), panel, out)
    return out


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), price=st.integers(-8, 5), volume=st.integers(-6, 6))
def test_scale_free_features_do_not_know_the_unit(seed, price, volume):
    panel = sample_panel(200, 8, seed=seed)
    factors = dict.fromkeys(PRICES, 10.0**price) | dict.fromkeys(VOLUMES, 10.0**volume)
    scaled = replace(panel, columns={k: v * factors.get(k, 1.0) for k, v in panel.columns.items()})
    for name, a, b in zip(default_features(), features_of(panel), features_of(scaled), strict=True):
        if CATALOGUE[name].scale_free:
            worst = np.nanmax(np.abs(a - b)) / max(float(np.nanstd(a)), 1e-300)
            assert worst < 1e-8, f"{name}: {worst:.1e} of its standard deviation"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_values_are_finite_and_in_range_after_warm_up(seed):
    panel = sample_panel(160, 8, seed=seed)
    for name, values in zip(default_features(), features_of(panel), strict=True):
        described = CATALOGUE[name]
        assert np.isnan(values[: described.warmup]).all(), name
        assert np.isfinite(values[described.warmup :]).all(), name
        least, greatest = described.value_range
        assert least is None or values[described.warmup :].min() >= least - 1e-9 * max(1.0, abs(least)), name
        assert greatest is None or values[described.warmup :].max() <= greatest + 1e-9 * max(1.0, greatest), (
            name
        )


def test_a_market_without_moves_and_trades_gives_numbers():
    panel = sample_panel(160, 8)
    for name in PRICES:
        panel.columns[name][...] = 0.1 + 0.2
    for name in ("volume", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote"):
        panel.columns[name][...] = 0.0
    for name, values in zip(default_features(), features_of(panel), strict=True):
        assert np.isfinite(values[CATALOGUE[name].warmup :]).all(), name
