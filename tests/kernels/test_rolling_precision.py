"""Windows against long double: no drift, no memory of a bad print, exactly nothing in a flat market."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.compute import run_batch
from kernels.engine import engine_for
from kernels.sample import SamplePanel

BARS, N = 20_000, 20
NAMES = (
    "std_20", "sma_20", "realised_vol_30", "skew_30", "kurtosis_30", "variance_ratio_60_4", "bollinger_position_20_2",
    "parkinson_vol_30", "garman_klass_vol_30", "vwap_20", "wma_20", "stoch_rsi_14_14", "cci_20", "volume_ratio_20",
)  # fmt: skip

FADING = ("stoch_rsi_14_14", "keltner_position_20_10_2", "rsi_14", "plus_di_14", "minus_di_14")


def panel_of(close: np.ndarray, volume: np.ndarray | None = None, wick: float = 1e-3) -> SamplePanel:
    open_ = np.roll(close, 1)
    open_[0] = close[0]
    high, low = np.maximum(open_, close) * (1 + wick), np.minimum(open_, close) * (1 - wick)
    volume = np.full_like(close, 5.0) if volume is None else volume
    columns = dict(
        zip(("open", "high", "low", "close", "volume"), (open_, high, low, close, volume), strict=True)
    )
    columns = {k: np.ascontiguousarray(v.reshape(-1, 1)) for k, v in columns.items()}
    return SamplePanel(np.arange(len(close), dtype=np.int64) * 60_000, ("X",), "1m", columns)


def features_of(panel: SamplePanel) -> dict[str, np.ndarray]:
    engine = engine_for(NAMES, dtype=np.float64)
    out = np.empty((len(NAMES), len(panel.open_time), 8))
    run_batch(engine, panel, out)
    return dict(zip(NAMES, out[:, :, 0], strict=True))


def windows(x: np.ndarray, n: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(x.astype(np.longdouble), n)


def exact_std(x: np.ndarray, n: int) -> np.ndarray:
    y = windows(x, n)
    return np.sqrt(((y - y.mean(1, keepdims=True)) ** 2).mean(1))


def relative(values: np.ndarray, expected: np.ndarray) -> float:
    values = values[-len(expected) :]
    nonzero = expected != 0
    assert (values[~nonzero] == 0).all()
    return float(np.max(np.abs(values - expected)[nonzero] / np.abs(expected[nonzero])))


def walk(scale: float, volatility: float) -> np.ndarray:
    return scale * np.exp(np.cumsum(np.random.default_rng(1).normal(0, volatility, BARS)))


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e5])
@pytest.mark.parametrize("volatility", [1e-2, 1e-3, 1e-5])
def test_mean_and_deviation_at_every_price(scale, volatility):
    close = walk(scale, volatility)
    mine = features_of(panel_of(close))
    assert relative(mine["std_20"], exact_std(close, N)) < 1e-12
    assert relative(mine["sma_20"], windows(close, N).mean(1)) < 1e-14
    weights = np.arange(1, N + 1) / np.longdouble(N * (N + 1) / 2)
    assert relative(mine["wma_20"], windows(close, N) @ weights) < 1e-14


def test_a_bad_print_leaves_no_trace():
    close = walk(100.0, 1e-3)
    broken = close.copy()
    broken[9_000] *= 1e4
    volume = np.full_like(close, 5.0)
    volume[9_000] *= 1e4
    good, bad = features_of(panel_of(close)), features_of(panel_of(broken, volume))
    for name in set(NAMES) - {"stoch_rsi_14_14"}:  # the RSI remembers, as it should
        assert np.array_equal(good[name][9_000 + 70 :], bad[name][9_000 + 70 :], equal_nan=True), name
        assert not np.array_equal(good[name][9_000:9_010], bad[name][9_000:9_010]), name
    assert relative(bad["std_20"][: 9_000 + 60], exact_std(broken[: 9_000 + 60], N)) < 1e-12


def test_flat_market():
    close = walk(0.1 + 0.2, 1e-3)
    close[500:700] = close[500] = 0.1 + 0.2  # a price that float64 does not hold exactly
    mine = features_of(panel_of(close, wick=0.0))
    flat = slice(500 + 66, 700)
    for name in (
        "std_20",
        "realised_vol_30",
        "skew_30",
        "bollinger_position_20_2",
        "parkinson_vol_30",
        "cci_20",
    ):
        assert (mine[name][flat] == 0).all(), name
    assert (mine["garman_klass_vol_30"][flat] == 0).all()
    assert (mine["kurtosis_30"][flat] == 0).all()
    assert (mine["variance_ratio_60_4"][flat] == 1).all()


def test_what_fades_in_a_flat_market_does_not_turn_into_noise():
    close = walk(0.1 + 0.2, 1e-3)
    close[500:] = close[499]
    panel = panel_of(close, wick=0.0)
    engine = engine_for(FADING, dtype=np.float64)
    out = np.empty((len(FADING), BARS, 8))
    run_batch(engine, panel, out)
    values = dict(zip(FADING, out[:, :, 0], strict=True))
    assert (values["stoch_rsi_14_14"][500 + 14 :] == 0).all()  # the RSI stands still, but for rounding
    position = values["keltner_position_20_10_2"]
    assert np.abs(position[500:]).max() <= np.abs(position[100:500]).max()
    assert (position[1_000:] == 0).all()
    held = values["rsi_14"][500]
    assert np.allclose(values["rsi_14"][500:9_000], held) and (values["rsi_14"][-1_000:] == 0).all()
    for name in ("rsi_14", "plus_di_14", "minus_di_14"):  # what is left is what was there, or nothing
        assert np.unique(values[name][600:].round(6)).size <= 2, name


def test_higher_moments_and_range_volatilities():
    close = walk(3.0, 4e-3)
    panel = panel_of(close)
    mine = features_of(panel)
    returns = np.diff(np.log(close.astype(np.longdouble)))
    deviations = windows(returns, 30) - windows(returns, 30).mean(1, keepdims=True)
    m2, m3, m4 = ((deviations**k).mean(1) for k in (2, 3, 4))
    assert np.max(np.abs(mine["skew_30"][30:] - m3 / m2**1.5)) < 1e-10
    assert np.max(np.abs(mine["kurtosis_30"][30:] - (m4 / m2**2 - 3))) < 1e-10
    assert relative(mine["realised_vol_30"][30:], np.sqrt(m2)) < 1e-11  # the logarithms are rounded, too
    spread = np.log(panel.columns["high"][:, 0].astype(np.longdouble) / panel.columns["low"][:, 0])
    body = np.log(close.astype(np.longdouble) / panel.columns["open"][:, 0])
    parkinson = np.sqrt((windows(spread, 30) ** 2).mean(1) / (4 * np.log(np.longdouble(2))))
    assert relative(mine["parkinson_vol_30"], parkinson) < 1e-12
    garman = windows(spread, 30) ** 2 / 2 - (2 * np.log(np.longdouble(2)) - 1) * windows(body, 30) ** 2
    assert relative(mine["garman_klass_vol_30"], np.sqrt(garman.mean(1))) < 1e-11
    long = windows(np.log(close[4:].astype(np.longdouble) / close[:-4]), 60).var(1)
    short = windows(returns, 60).var(1)
    expected = long / (4 * short[-len(long) :])
    assert relative(mine["variance_ratio_60_4"], expected) < 1e-10


def test_lognormal_volume():
    volume = np.random.default_rng(2).lognormal(8, 2.5, BARS)
    close = walk(7.0, 1e-3)
    panel = panel_of(close, volume)
    mine = features_of(panel)
    price = sum(panel.columns[c][:, 0].astype(np.longdouble) for c in ("high", "low", "close")) / 3
    expected = windows(price * volume, N).sum(1) / windows(volume, N).sum(1)
    assert relative(mine["vwap_20"], expected) < 1e-14
    assert relative(mine["volume_ratio_20"], volume[N - 1 :] / windows(volume, N).mean(1)) < 1e-14


def test_own_logarithm_is_within_one_unit_in_the_last_place():
    from kernels.logarithm import reference_log

    rng = np.random.default_rng(0)
    x = np.concatenate(
        [10 ** rng.uniform(-12, 12, 200_000), 1 + rng.normal(0, 1e-3, 200_000), [1.0, 2.0, 0.5]]
    )
    exact = np.log(x.astype(np.longdouble))
    units = np.abs(reference_log(x) - exact) / np.spacing(np.abs(exact.astype(float)))
    assert units.max() <= 1.0
    assert reference_log(np.array([1.0]))[0] == 0.0
