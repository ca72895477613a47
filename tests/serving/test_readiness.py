"""Readiness: each fault is told, and a sound home is ready."""

from __future__ import annotations

import polars as pl
import pytest

from market.store import KlineStore
from serving.readiness import assess
from serving.sweep import sweep

STEP = 300_000


@pytest.fixture
def symbols(bars) -> list[str]:
    return bars["symbol"].unique(maintain_order=True).to_list()


@pytest.fixture
def last(bars) -> int:
    return int(bars["open_time"].max())


@pytest.fixture
def store(home):
    with KlineStore.open(home) as opened:
        yield opened


def look(store, home, symbols, now, intervals=("5m",)):
    return assess(store, home, now, intervals=intervals, symbols=symbols)


def test_a_sound_home_is_ready(store, home, make_bundle, symbols, last, bars) -> None:
    store.write("5m", bars)
    make_bundle()
    assert look(store, home, symbols, last + STEP).verdict == "degraded", "nobody has swept"
    sweep(store, home, symbols=symbols, now_ms=last + STEP)
    assert look(store, home, symbols, last + STEP) == look(store, home, symbols, last + 2 * STEP)
    readiness = look(store, home, symbols, last + STEP)
    assert (readiness.verdict, readiness.reasons) == ("ready", ())


def test_an_empty_home_is_not_ready(store, home, symbols, last) -> None:
    readiness = look(store, home, symbols, last)
    assert readiness.verdict == "not_ready"
    assert any("no sound model" in reason for reason in readiness.reasons)


def test_late_absent_and_holed_symbols_degrade_it(store, home, make_bundle, symbols, last, bars) -> None:
    make_bundle()
    late, holed, absent, *_ = symbols
    name, time = pl.col("symbol"), pl.col("open_time")
    gone = (
        ((name == late) & (time > last - 9 * STEP))
        | ((name == holed) & (time == last - STEP))
        | (name == absent)
    )
    store.write("5m", bars.filter(~gone))
    sweep(store, home, symbols=symbols, now_ms=last + STEP)
    readiness = look(store, home, symbols, last + STEP)
    assert readiness.verdict == "degraded"
    told = "\n".join(readiness.reasons)
    assert f"no bars of {absent}" in told
    assert f"{late} by 9 bars" in told
    assert "bars missing" in told
    assert holed in told


@pytest.mark.parametrize(("behind", "verdict"), [(2, "ready"), (3, "not_ready")])
def test_bars_grow_old(store, home, make_bundle, symbols, last, bars, behind: int, verdict: str) -> None:
    store.write("5m", bars)
    make_bundle()
    sweep(store, home, symbols=symbols, now_ms=last + STEP)
    assert look(store, home, symbols, last + (1 + behind) * STEP).verdict == verdict


def test_a_damaged_model_is_not_ready(store, home, make_bundle, symbols, last, bars) -> None:
    store.write("5m", bars)
    folder = make_bundle()
    sweep(store, home, symbols=symbols, now_ms=last + STEP)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    readiness = look(store, home, symbols, last + STEP)
    assert readiness.verdict == "not_ready"
    assert "SHA-256" in readiness.reasons[0]


def test_an_interval_without_bars_is_told(store, home, make_bundle, symbols, last, bars) -> None:
    store.write("5m", bars)
    make_bundle()
    sweep(store, home, symbols=symbols, now_ms=last + STEP)
    readiness = look(store, home, symbols, last + STEP, ("5m", "1m"))
    assert readiness.verdict == "degraded"
    assert "1m" in readiness.reasons[0]


def test_a_home_that_nobody_has_fetched_for_lately_is_told_so_in_one_line_an_interval(
    store, home, make_bundle, symbols, last, bars
) -> None:
    store.write("5m", bars)
    make_bundle()
    sweep(store, home, symbols=symbols, now_ms=last + STEP)
    readiness = look(store, home, symbols, last + 5 * STEP)
    assert readiness.verdict == "not_ready"
    fetched, swept = readiness.reasons
    assert (
        fetched.startswith("no 5m bar was fetched since that of ")
        and ", 4 bars ago: klinecast run ingest" in fetched
    )
    assert "klinecast run prediction_sweep" in swept
    assert not any(symbol in fetched for symbol in symbols), "nothing is wrong with any of them"
