"""Sweeps with a model that reads several intervals: the windows of training, and no old bar for a late one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kernels.compute import compute
from kernels.joins import IntervalFeatures, JoinedFeatures
from market.store import KlineStore
from serving.bundle import load_bundle
from serving.cache import open_cache
from serving.errors import BundleError, SweepError
from serving.inputs import model_inputs, read_panels
from serving.intervals import interval_parts
from serving.readiness import assess
from serving.sweep import SweepReport, sweep
from tests.serving.conftest import SYMBOLS, WINDOW, small_model
from training.config import ForecasterConfig
from training.data.dataset import build_training_set

STEP, QUARTER = 300_000, 900_000
FEW = list(SYMBOLS[:4])
OWN = ("log_return_1", "rsi_14", "adx_14", "ppo_hist_12_26_9", "realised_vol_30", "taker_imbalance")
NAMES = (*OWN, "rsi_14@15m", "taker_imbalance@15m")
VALUES = ("p_down", "p_flat", "p_up", "q10", "q50", "q90")
SUMS = ("volume", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote")


def quarters(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars of 15 minutes from those of 5, whole ones alone."""
    return (
        bars.group_by("symbol", (pl.col("open_time") // QUARTER * QUARTER), maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            *(pl.col(name).sum() for name in SUMS),
            pl.col("close_time").last(),
            pl.len().alias("bars"),
        )
        .filter(pl.col("bars") == 3)
        .select(bars.columns)
        .cast(dict(bars.schema))
    )


@pytest.fixture(scope="module")
def few(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.filter(pl.col("symbol").is_in(FEW))


@pytest.fixture(scope="module")
def edge(few: pl.DataFrame) -> int:
    """Open time of the last 5m bar that closes together with a 15m bar."""
    return int(quarters(few)["close_time"].max()) + 1 - STEP


@pytest.fixture
def store(home: Path, few: pl.DataFrame):
    with KlineStore.open(home) as opened:
        opened.write("5m", few)
        yield opened


@pytest.fixture
def model(make_bundle, home: Path):
    make_bundle(model=small_model(features=len(NAMES)), feature_names=list(NAMES), intervals=["5m", "15m"])
    return load_bundle(home)


def swept(store: KlineStore, home: Path, bar: int, **more: Any) -> SweepReport:
    return sweep(store, home, symbols=FEW, now_ms=bar + STEP + 1_000, **more)


def bits(report: SweepReport, symbol: str) -> bytes:
    return report.frame.filter(pl.col("symbol") == symbol).select(VALUES).to_numpy().tobytes()


def test_each_bar_is_served_with_the_window_of_training(store, home, few, model, edge, tmp_path) -> None:
    """Bar after bar, the store holding no more than what had closed, against the training set of the whole."""
    longer = quarters(few)
    with KlineStore.open(home) as whole:
        whole.write("15m", longer)
        parts = interval_parts(model, "5m")
        own, *rest = (
            IntervalFeatures(p.interval, length, compute(whole.panel(p.interval, FEW), p.features))
            for p, length in zip(parts, (STEP, QUARTER), strict=True)
        )
        joined = JoinedFeatures(own, rest)
        close = whole.panel("5m", FEW, columns=("close",)).columns["close"]
    config = ForecasterConfig(window=WINDOW, horizon=3)
    made = build_training_set(joined, close, "5m", config, tmp_path / "set")
    assert made.feature_names == NAMES
    (tmp_path / "then").mkdir()
    written = 0
    with KlineStore.open(tmp_path / "then") as then:
        for bar in range(edge - 4 * STEP, edge + STEP, STEP):
            now = bar + STEP
            for interval, frame in (("5m", few), ("15m", longer)):
                then.write(interval, frame.filter(pl.col("close_time").is_between(written, now - 1)))
            written = now
            inputs = model_inputs(read_panels(then, model, "5m", FEW, now), model)
            t = int(np.searchsorted(made.open_time, bar))
            rows = np.array([(t, s) for s in range(len(FEW))], np.int32)
            assert inputs.complete.all()
            assert inputs.windows.tobytes() == made.windows(rows).tobytes()


def test_a_longer_bar_that_is_late_is_told_and_not_replaced(store, home, few, model, edge, caplog) -> None:
    longer = quarters(few)
    late = pl.col("open_time") == edge + STEP - QUARTER
    store.write("15m", longer.filter(~late))
    before = swept(store, home, edge - STEP)
    assert (before.frame.height, before.not_ready) == (len(FEW), {}), (
        "its bar of 15 minutes had closed before"
    )
    report = swept(store, home, edge)
    assert (report.open_time, report.frame.height) == (edge, 0)
    assert report.not_ready == {"15m": tuple(FEW)}
    assert {reason.split(":")[0] for reason in report.skipped.values()} == {"not ready"}
    assert "no 15m bar at" in report.skipped[FEW[0]]
    assert "not stored for 4 of 4 symbols" in caplog.text
    assert store.predictions("5m", start=edge).height == 0
    told = assess(store, home, edge + STEP, intervals=("5m", "15m"), symbols=FEW)
    assert told.verdict == "not_ready"
    assert any("15m bars" in reason for reason in told.reasons)

    store.write("15m", longer.filter(late & (pl.col("symbol") != FEW[1])))
    some = swept(store, home, edge)
    assert some.frame["symbol"].to_list() == [FEW[0], *FEW[2:]]
    assert some.not_ready == {"15m": (FEW[1],)}
    store.write("15m", longer.filter(late))
    every = swept(store, home, edge)
    assert (every.frame.height, every.skipped, every.not_ready) == (len(FEW), {}, {})
    assert bits(every, FEW[0]) == bits(some, FEW[0])


def test_what_closes_later_changes_nothing(store, home, few, model, edge) -> None:
    longer = quarters(few)
    store.write("15m", longer)
    bar = edge - STEP  # the last bar of 15 minutes is stored, and has not closed
    first = swept(store, home, bar)
    open_one = pl.col("open_time") == edge + STEP - QUARTER
    store.write("15m", longer.filter(open_one).with_columns(taker_buy_base=pl.col("volume") * 0.99))
    store.write("5m", few.filter(pl.col("open_time") > bar).with_columns(taker_buy_base=pl.lit(0.0)))
    second = swept(store, home, bar)
    assert [bits(first, symbol) for symbol in FEW] == [bits(second, symbol) for symbol in FEW]
    seen = swept(store, home, edge)
    store.write("15m", longer.filter(open_one))
    assert bits(swept(store, home, edge), FEW[0]) != bits(seen, FEW[0]), "it is seen once it has closed"


def test_who_is_skipped_for_the_longer_interval(store, home, few, model, edge) -> None:
    holed, short, blind, fine = FEW
    longer = quarters(few)
    is_one = {name: pl.col("symbol") == name for name in FEW}
    last = edge + STEP - QUARTER
    longer = longer.filter(
        ~(is_one[holed] & (pl.col("open_time") == last - 3 * QUARTER)),
        ~(is_one[short] & (pl.col("open_time") < last - 9 * QUARTER)),
    ).with_columns(pl.when(~is_one[blind]).then(pl.col("taker_buy_base")).alias("taker_buy_base"))
    store.write("15m", longer)
    report = swept(store, home, edge)
    assert report.frame["symbol"].to_list() == [fine]
    assert report.not_ready == {}
    window = 6  # bars of 15 minutes that can belong to 16 of 5
    assert report.skipped[holed].startswith(f"gap: 1 of the window's {window} 15m bars are missing")
    assert report.skipped[short] == f"too short: listed for 10 15m bars, {14 + window} needed"
    assert "the 15m bars lack taker_buy_base, which taker_imbalance@15m read" in report.skipped[blind]


def test_no_longer_bars_at_all(store, home, model, edge) -> None:
    report = swept(store, home, edge)
    assert set(report.skipped.values()) == {"no bars: none of 15m are stored"}
    assert report.not_ready == {"15m": tuple(FEW)}


def test_a_revised_longer_bar_is_another_entry_of_the_cache(store, home, few, model, edge) -> None:
    longer = quarters(few)
    store.write("15m", longer)
    cache = open_cache()
    first = swept(store, home, edge, cache=cache)
    assert swept(store, home, edge, cache=cache).cache == "hit"
    one = longer.filter((pl.col("symbol") == FEW[0]) & (pl.col("open_time") == edge + STEP - QUARTER))
    store.write("15m", one.with_columns(taker_buy_base=pl.col("volume") * 0.9))
    again = swept(store, home, edge, cache=cache)
    assert again.cache == "miss"
    assert bits(again, FEW[0]) != bits(first, FEW[0])
    assert bits(again, FEW[1]) == bits(first, FEW[1])


def test_published_panels_of_both_intervals_give_the_same_bits(
    store, home, few, model, edge, monkeypatch
) -> None:
    store.write("15m", quarters(few))
    without = swept(store, home, edge)
    for interval in ("5m", "15m"):
        store.publish_panel(interval, FEW, 1_200)
    with monkeypatch.context() as patch:
        patch.setattr(KlineStore, "panel", None)  # the store's bars are not needed
        having = swept(store, home, edge)
    assert [bits(having, symbol) for symbol in FEW] == [bits(without, symbol) for symbol in FEW]


@pytest.mark.parametrize(
    ("intervals", "names", "told"),
    [
        (["5m"], NAMES, "features of 5m 15m, and intervals 5m"),
        (["5m", "15m", "1h"], NAMES, "intervals 5m 15m 1h"),
        (["15m", "5m"], ("realised_vol_30", "rsi_14@5m"), "5m bars are no whole number of 15m bars"),
        (["5m", "15m"], ("rsi_14@15m",), "no feature of the model's own interval"),
        (["5m", "1M"], ("rsi_14", "rsi_14@1M"), "calendar month"),
    ],
)
def test_a_manifest_that_does_not_fit_together_is_refused(
    store, home, make_bundle, edge, intervals, names, told
) -> None:
    make_bundle(model=small_model(features=len(names)), feature_names=list(names), intervals=intervals)
    with pytest.raises(BundleError, match=told) as caught:
        swept(store, home, edge)
    assert caught.value.where.endswith("manifest.json")
    reasons = assess(store, home, edge, intervals=("5m",), symbols=FEW).reasons
    assert any("no sound model" in reason and told in reason for reason in reasons)


def test_it_is_swept_on_its_own_interval_alone(store, home, model, edge) -> None:
    with pytest.raises(SweepError, match="'15m'"):
        swept(store, home, edge, interval="15m")
