"""Missing bars, late starts, early ends: what is NaN, and what goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kernels.catalogue import CATALOGUE, default_features
from kernels.compute import compute
from kernels.sample import SamplePanel, sample_panel

BARS, GAP = 400, 200


def with_gap(panel: SamplePanel, first: int, bars: int = 1, symbol: int = 0) -> SamplePanel:
    columns = {name: values.copy() for name, values in panel.columns.items()}
    for values in columns.values():
        values[first : first + bars, symbol] = np.nan
    return replace(panel, columns=columns)


@pytest.fixture(scope="module")
def plain() -> SamplePanel:
    return sample_panel(BARS, 9, seed=3)


def column(panel: SamplePanel, name: str) -> np.ndarray:
    return compute(panel, default_features()).values[default_features().index(name), :, 0]


@pytest.mark.parametrize(
    ("name", "window"),
    [("sma_20", 20), ("wma_20", 20), ("std_20", 20), ("donchian_upper_20", 20), ("cci_20", 20), ("roc_10", 11),
     ("aroon_up_14", 15), ("mfi_14", 15), ("realised_vol_30", 31), ("log_return_1", 2), ("vwap_20", 20),
     ("stoch_d_14_3_3", 18), ("variance_ratio_60_4", 64), ("hour_sin", 1), ("taker_imbalance", 1)],
)  # fmt: skip
@pytest.mark.parametrize("bars", [1, 3])
def test_a_window_is_nan_while_the_gap_lies_in_it(plain, name, window, bars):
    broken = column(with_gap(plain, GAP, bars), name)
    whole = column(plain, name)
    last = GAP + bars - 1 + window - 1
    assert np.isnan(broken[GAP : last + 1]).all()
    assert np.array_equal(broken[last + 1 :], whole[last + 1 :])
    assert np.array_equal(broken[:GAP], whole[:GAP], equal_nan=True)


def test_recursive_state_holds_over_a_gap(plain):
    panel = with_gap(plain, GAP, 5)
    close = plain.columns["close"][:, 0]
    average = close[:20].mean()
    expected = np.full(BARS, np.nan)
    expected[19] = average
    for t in range(20, BARS):
        if not GAP <= t < GAP + 5:
            average += (close[t] - average) * 2 / 21
            expected[t] = average
    values = column(panel, "ema_20")
    assert np.array_equal(np.isnan(values), np.isnan(expected))
    assert np.allclose(values, expected, rtol=1e-6, equal_nan=True)
    rsi = column(panel, "rsi_14")  # the change over the gap is unknown: one bar more
    assert np.isnan(rsi[GAP : GAP + 6]).all()
    assert not np.isnan(rsi[GAP + 6 :]).any()


def test_every_feature_is_nan_at_a_missing_bar_and_comes_back(plain):
    values = compute(with_gap(plain, GAP, 2), default_features()).values[:, :, 0]
    assert np.isnan(values[:, GAP : GAP + 2]).all()
    for name, series in zip(default_features(), values, strict=True):
        back = GAP + 2 + CATALOGUE[name].warmup
        assert not np.isnan(series[back:]).any(), name


def test_a_late_start_is_a_new_history(plain):
    start = 130
    late = compute(with_gap(plain, 0, start), default_features()).values[:, start:, 0]
    cut = {name: np.ascontiguousarray(values[start:]) for name, values in plain.columns.items()}
    fresh = compute(
        replace(plain, open_time=plain.open_time[start:], columns=cut), default_features()
    ).values[:, :, 0]
    assert np.array_equal(late, fresh, equal_nan=True)


def test_an_early_end_and_neighbours(plain):
    whole = compute(plain, default_features()).values
    ended = compute(with_gap(plain, 300, 100), default_features()).values
    assert np.isnan(ended[:, 300:, 0]).all()
    assert np.array_equal(ended[:, :300, 0], whole[:, :300, 0], equal_nan=True)
    assert np.array_equal(ended[:, :, 1:], whole[:, :, 1:], equal_nan=True)


def test_a_missing_taker_column_empties_only_what_reads_it(plain):
    panel = with_gap(plain, 0, 0)
    panel.columns["taker_buy_base"][:, 0] = np.nan
    values = compute(panel, default_features()).values[:, :, 0]
    whole = compute(plain, default_features()).values[:, :, 0]
    for name, series, before in zip(default_features(), values, whole, strict=True):
        if "taker_buy_base" in CATALOGUE[name].inputs:
            assert np.isnan(series).all()
        else:
            assert np.array_equal(series, before, equal_nan=True)


def test_changing_the_future_changes_nothing_before(plain):
    whole = compute(plain, default_features()).values
    for cut in (50, 201, 399):
        columns = {name: values.copy() for name, values in plain.columns.items()}
        for name in ("open", "high", "low", "close"):
            columns[name][cut:] *= 3.0
        columns["volume"][cut:] = 0.0
        columns["trades"][cut:] = 1.0
        columns["taker_buy_base"][cut:] = 0.0
        other = compute(replace(plain, columns=columns), default_features()).values
        assert np.array_equal(other[:, :cut], whole[:, :cut], equal_nan=True)
        assert not np.array_equal(other[:, cut], whole[:, cut], equal_nan=True)


def test_a_shift_in_time_moves_everything_but_the_clock(plain):
    later = replace(plain, open_time=plain.open_time + 7 * 86_400_000)
    assert np.array_equal(
        compute(later, default_features()).values, compute(plain, default_features()).values, equal_nan=True
    )
