"""Batch, chunks, streams, lane widths, threads and the NumPy oracle give the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.catalogue import default_features
from kernels.compute import compute
from kernels.engine import Engine
from kernels.errors import BadPanel
from kernels.panel import clock_values
from kernels.parity import bar_by_bar, check_features, in_chunks, oracle
from kernels.sample import SamplePanel, sample_panel

FEW = (
    "rsi_14",
    "ema_9",
    "supertrend_7_2.5",
    "cci_10",
    "realised_vol_5",
    "aroon_up_6",
    "hour_sin",
    "taker_imbalance",
)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    integers = np.int32 if a.dtype == np.float32 else np.int64
    return a.shape == b.shape and bool(
        ((a.view(integers) == b.view(integers)) | (np.isnan(a) & np.isnan(b))).all()
    )


def run_at(width: int, panel: SamplePanel, dtype: type = np.float32) -> np.ndarray:
    engine = Engine(FEW, width=width, dtype=dtype)
    columns = [panel.columns[name] for name in engine.program.columns]
    out = np.empty((len(FEW), *columns[0].shape), dtype=dtype)
    clock = clock_values(panel.open_time, engine.program.clock)
    assert engine.run(columns, clock, engine.new_state(len(panel.symbols)), 0, out) == -1
    return out


def test_every_listed_feature_means_the_same_everywhere():
    report = check_features(default_features())
    assert len(report.checks) == 10
    assert report.failures == ()


def test_parity_check_notices_a_difference(monkeypatch):
    import kernels.parity as parity

    def wrong(features, panel):
        values = oracle(features, panel)
        values[0, -1, 0] += 1.0
        return values

    monkeypatch.setattr(parity, "oracle", wrong)
    assert [line.split(":")[0] for line in check_features(FEW).failures] == ["NumPy oracle"]


@pytest.mark.parametrize("width", [1, 2, 4, 16])
def test_lane_width_changes_no_bit(width):
    panel = sample_panel(300, 21, seed=4, gaps=True, scales=True)
    assert same_bits(run_at(width, panel), compute(panel, FEW).values)


def test_float64_output_rounds_to_the_float32_output():
    panel = sample_panel(300, 21, seed=4, gaps=True, scales=True)
    assert same_bits(run_at(8, panel, np.float64).astype(np.float32), compute(panel, FEW).values)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), symbols=st.integers(1, 19), bars=st.integers(2, 150))
def test_any_shape_in_any_chunks_equals_batch(seed, symbols, bars):
    panel = sample_panel(bars, max(symbols, 8), seed=seed, gaps=True, scales=True)
    batch = compute(panel, FEW).values
    assert same_bits(in_chunks(FEW, panel, seed), batch)
    first = SamplePanel(
        panel.open_time, panel.symbols[:symbols], panel.interval,
        {k: np.ascontiguousarray(v[:, :symbols]) for k, v in panel.columns.items()},
    )  # fmt: skip
    kept = min(symbols, len(panel.symbols))
    assert same_bits(bar_by_bar(FEW, first), np.ascontiguousarray(batch[:, :, :kept]))


def test_a_panel_long_enough_for_the_stage_equals_small_ones():
    panel = sample_panel(4_000, 100, seed=2)
    whole = compute(panel, FEW)
    assert whole.values.nbytes > 8 << 20
    assert same_bits(in_chunks(FEW, panel, 0), whole.values)
    assert same_bits(compute(panel, FEW, threads=2).values, whole.values)
    assert same_bits(compute(panel, FEW, out=np.full_like(whole.values, 7.0)).values, whole.values)


def test_rows_wider_than_a_stage_equal_narrow_ones():
    panel = sample_panel(150, 700, seed=6, gaps=True)
    wide = compute(panel, FEW).values
    left = {k: np.ascontiguousarray(v[:, :300]) for k, v in panel.columns.items()}
    narrow = compute(SamplePanel(panel.open_time, panel.symbols[:300], "", left), FEW).values
    assert same_bits(np.ascontiguousarray(wide[:, :, :300]), narrow)


@pytest.mark.parametrize("elements", [0, 1, 6, 15])
def test_output_may_begin_anywhere_in_a_line(elements):
    panel = sample_panel(150, 701, seed=6, gaps=True)
    shape = (len(FEW), 150, 701)
    size = int(np.prod(shape))
    around = np.full(size + 64, 7.0, dtype=np.float32)
    first = -around.ctypes.data % 64 // 4 + elements
    out = around[first : first + size].reshape(shape)
    compute(panel, FEW, out=out)
    assert same_bits(out, in_chunks(FEW, panel, 1))
    assert (around[:first] == 7.0).all() and (around[first + size :] == 7.0).all()


@pytest.mark.parametrize("kilobytes", [1, 64, 256])
def test_symbols_that_share_a_stage_change_no_bit(monkeypatch, kilobytes):
    panel = sample_panel(150, 701, seed=6, gaps=True)
    monkeypatch.setattr("kernels.engine._CACHE", kilobytes << 10)
    assert same_bits(compute(panel, FEW).values, in_chunks(FEW, panel, 1))
    assert same_bits(compute(panel, FEW, threads=2).values, in_chunks(FEW, panel, 1))


def test_a_feature_has_the_same_bits_in_any_company():
    panel = sample_panel(300, 9, seed=8, gaps=True)
    together = compute(panel, FEW)
    for name in ("rsi_14", "cci_10"):
        assert same_bits(compute(panel, (name,)).values[0], together.values[FEW.index(name)])


def test_without_a_compiler_the_oracle_steps_in(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    panel = sample_panel(120, 5, seed=8, gaps=True)
    interpreted = np.empty((len(FEW), 120, 8), dtype=np.float32)
    engine = Engine(FEW)
    assert engine.entry is None
    from kernels.compute import run_batch

    run_batch(engine, panel, interpreted)
    panel.columns["high"][70, 2] = 1e-12
    with pytest.raises(BadPanel, match="row 70"):
        run_batch(engine, panel, interpreted.copy())
    panel = sample_panel(120, 5, seed=8, gaps=True)
    monkeypatch.delenv("NUMBA_DISABLE_JIT")
    assert same_bits(np.ascontiguousarray(interpreted[:, :, :5]), compute(panel, FEW).values)
