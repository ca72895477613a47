"""The model is fed with what it was trained on: the same features, to the last bit but for a few."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from kernels.catalogue import CATALOGUE, available, model_features, spec
from kernels.compute import compute
from market.store import PANEL_COLUMNS, KlineStore, Panel
from serving.bundle import load_bundle
from serving.cache import ArrayCache
from serving.errors import SweepError
from serving.inputs import model_inputs, needed_columns, panel_digest
from serving.intervals import history_bars, interval_parts

WINDOW = 64


def panel_of(frames: dict[str, pl.DataFrame], interval: str) -> Panel:
    times = next(iter(frames.values()))["open_time"].to_numpy()
    columns = {}
    for name in PANEL_COLUMNS:
        known = [
            frame[name].cast(pl.Float64).to_numpy() for frame in frames.values() if name in frame.columns
        ]
        if known:
            columns[name] = np.ascontiguousarray(np.stack(known, axis=1))
    return Panel(times, tuple(frames), interval, columns)


def tail(panel: Panel, end: int, bars: int) -> Panel:
    columns = {name: np.ascontiguousarray(values[end - bars : end]) for name, values in panel.columns.items()}
    return dataclasses.replace(panel, open_time=panel.open_time[end - bars : end], columns=columns)


def differences(panel: Panel, names: tuple[str, ...], ends: range) -> tuple[int, int, float]:
    """Values compared, those that differ, the largest difference in standard deviations of the feature."""
    whole = compute(panel, names).values
    spread = np.nanstd(whole, axis=(1, 2), dtype=np.float64)[:, None, None]
    bars = history_bars(names, WINDOW)
    compared = differing = 0
    largest = 0.0
    for end in ends:
        served = compute(tail(panel, end, bars), names).values[:, -WINDOW:]
        trained = whole[:, end - WINDOW : end]
        assert np.isfinite(served).all()
        compared += served.size
        differing += int((served != trained).sum())
        largest = max(largest, float((np.abs(served.astype(float) - trained) / spread).max()))
    return compared, differing, largest


@pytest.fixture(scope="module")
def real_1h(shared_data) -> Panel:
    folder = shared_data / "klines" / "binance_spot_12col"
    return panel_of({s: pl.read_parquet(folder / f"{s}_1h.parquet") for s in ("BTCUSDT", "ETHUSDT")}, "1h")


def test_on_real_bars_the_short_history_gives_the_features_of_the_long_one(real_1h) -> None:
    ends = range(2_000, len(real_1h.open_time) + 1, 103)
    compared, differing, largest = differences(real_1h, model_features(), ends)
    assert compared > 90_000
    # The last bit of a float32 may still flip where two float64 lie on either side of a rounding boundary.
    assert differing <= 2e-5 * compared
    assert largest < 1e-6


def test_a_tenth_of_that_history_would_not_be_enough(real_1h) -> None:
    """So the test above can fail."""
    names = model_features()
    short = tail(real_1h, 4_000, WINDOW + (history_bars(names, WINDOW) - WINDOW) // 10)
    early = compute(short, names).values[:, -WINDOW:]
    whole = compute(tail(real_1h, 4_000, 4_000), names).values[:, -WINDOW:]
    assert np.abs(early - whole)[names.index("adx_14")].max() > 1e-3


def test_every_scale_free_feature_of_the_catalogue_settles(real_1h) -> None:
    """Not only those of today's model; each on its own history, so that slow ones lend quick ones none."""
    names = [
        name
        for name in available(tuple(CATALOGUE), real_1h.columns)
        if spec(name).scale_free and spec(name).warmup
    ]
    assert len(names) > 15
    names = [name for name in names if history_bars((name,), WINDOW) <= 4_500]
    whole = compute(real_1h, names).values
    spread = np.nanstd(whole, axis=(1, 2), dtype=np.float64)
    unsettled = {}
    for end in range(4_600, 5_000, 120):
        for bars in {history_bars((name,), WINDOW) for name in names}:
            served = compute(tail(real_1h, end, bars), names).values
            for at, name in enumerate(names):
                if history_bars((name,), WINDOW) == bars:
                    difference = np.abs(
                        served[at, -WINDOW:].astype(float) - whole[at, end - WINDOW : end]
                    ).max()
                    if not difference < 1e-5 * spread[at]:
                        unsettled[name, end] = difference / spread[at]
    assert not unsettled


@pytest.fixture
def stored(home, bars):
    with KlineStore.open(home) as store:
        store.write("5m", bars)
        yield store


def asked(store: KlineStore, bundle, *, symbols=("S00USDT", "S01USDT", "S02USDT")) -> Panel:
    bars = history_bars(bundle.feature_names, bundle.window)
    return store.panel("5m", symbols, bars=bars, columns=needed_columns(bundle.feature_names))


def test_the_cache_gives_what_would_have_been_computed(stored, home, make_bundle) -> None:
    make_bundle()
    bundle, cache = load_bundle(home), ArrayCache()
    panel = asked(stored, bundle)
    without, first, second = (
        model_inputs((panel,), bundle),
        model_inputs((panel,), bundle, cache),
        model_inputs((panel,), bundle, cache),
    )
    assert (without.cache, first.cache, second.cache) == ("off", "miss", "hit")
    for found in (first, second):
        assert found.windows.tobytes() == without.windows.tobytes()
        assert found.complete.tolist() == [True] * 3


def test_whatever_changes_the_inputs_is_another_entry(stored, home, make_bundle) -> None:
    make_bundle("v1")
    make_bundle("v2", window=8, model=None)
    make_bundle(
        "v3",
        feature_names=[
            "rsi_14",
            "log_return_1",
            "adx_14",
            "ppo_hist_12_26_9",
            "realised_vol_30",
            "taker_imbalance",
        ],
    )
    bundle, cache = load_bundle(home, "v1"), ArrayCache()
    panel = asked(stored, bundle)
    model_inputs((panel,), bundle, cache)
    revised = {name: values.copy() for name, values in panel.columns.items()}
    revised["volume"][3, 1] *= 1 + 1e-15 * 4  # the oldest part of the history, one digit
    others = [
        (dataclasses.replace(panel, columns=revised), bundle),
        (asked(stored, bundle, symbols=("S01USDT", "S00USDT", "S02USDT")), bundle),
        (dataclasses.replace(panel, interval="1m"), bundle),
        (dataclasses.replace(panel, open_time=panel.open_time + 300_000), bundle),
        (panel, load_bundle(home, "v2")),
        (panel, load_bundle(home, "v3")),
    ]
    assert panel_digest(others[0][0]) != panel_digest(panel)
    for other, its_bundle in others:
        assert model_inputs((other,), its_bundle, cache).cache == "miss"
    assert model_inputs((panel,), bundle, cache).cache == "hit"


def test_a_feature_that_nobody_knows_names_the_bundle(home, make_bundle) -> None:
    folder = make_bundle(feature_names=["log_return_1", "astrology_12", "a", "b", "c", "d"])
    with pytest.raises(SweepError, match="astrology_12") as caught:
        interval_parts(load_bundle(home), "5m")
    assert caught.value.where == str(folder / "manifest.json")
