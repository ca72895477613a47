"""The planted predictable part has the documented strength, and the truth route tells the truth about it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from market.exchange.climate import MINUTE_MS
from market.exchange.listing import DAY_MS, GENESIS_MS
from market.exchange.minutes import CLOSE, TAKER_BASE, VOLUME
from market.exchange.simulate import SimulatedMarket
from market.exchange.source import KlineQuery
from market.exchange.truth import planted_anomalies, truth_of_bars

SYMBOLS, DAYS, HORIZON = 12, 40, 6
NOW_MS = GENESIS_MS + 420 * DAY_MS  # every symbol is listed by then
FIVE_MS = 5 * MINUTE_MS


@dataclass
class Sample:
    """Bars of one symbol whose return over the horizon is known; shape (n,), imbalance (n, 4)."""

    p_up: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    realised: np.ndarray
    imbalance: np.ndarray


def sample_of(market: SimulatedMarket, symbol: str) -> Sample:
    start = NOW_MS - DAYS * DAY_MS
    times, bars, truths = [], [], []
    while start < NOW_MS - DAY_MS:
        query = KlineQuery(symbol, "5m", start, None, 1000)
        got, rows = market.select(query, NOW_MS)
        times.append(got)
        bars.append(rows.astype(float))
        truths.append(truth_of_bars(market, query, HORIZON, NOW_MS))
        start = int(got[-1]) + 1
    time = np.concatenate([truth.open_time for truth in truths])
    bar = np.concatenate(bars)[: len(time)]
    assert (time == np.concatenate(times)[: len(time)]).all()
    target = np.searchsorted(time, time + HORIZON * FIVE_MS)
    known = target < len(time)
    target = np.minimum(target, len(time) - 1)
    known &= time[target] == time + HORIZON * FIVE_MS
    known[:4] = False
    imbalance = 2 * bar[:, TAKER_BASE] / bar[:, VOLUME] - 1
    realised = np.log(bar[target, CLOSE] / bar[:, CLOSE])
    known &= realised != 0
    names = ("p_up", "mean", "std")
    columns = [np.concatenate([getattr(truth, name) for truth in truths])[known] for name in names]
    lags = np.stack([np.roll(imbalance, lag) for lag in range(4)], axis=1)
    return Sample(*columns, realised[known], lags[known])


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    market = SimulatedMarket(SYMBOLS, 3)
    return [sample_of(market, symbol) for symbol in market.specs]


def auc(score: np.ndarray, outcome: np.ndarray) -> float:
    order = np.argsort(score, kind="stable")
    ranks = np.empty(len(score))
    ranks[order] = np.arange(1, len(score) + 1)
    positive = int(outcome.sum())
    return float(
        (ranks[outcome].sum() - positive * (positive + 1) / 2) / (positive * (len(score) - positive))
    )


def joined(samples: list[Sample], name: str) -> np.ndarray:
    return np.concatenate([getattr(sample, name) for sample in samples])


def test_the_best_possible_auc_is_as_documented(samples):
    up = joined(samples, "realised") > 0
    assert len(up) > 100_000
    assert 0.575 < auc(joined(samples, "p_up"), up) < 0.605
    assert abs(up.mean() - 0.5) < 0.02


def test_the_best_forecast_is_calibrated(samples):
    """In each tenth of the forecasts the share of rises is the mean forecast, within 4.5 standard errors.

    Windows overlap by the horizon and the signal persists, so the independent unit is the day: the error is
    estimated from the scatter of daily means.
    """
    p, up = joined(samples, "p_up"), joined(samples, "realised") > 0
    edges = np.quantile(p, np.linspace(0, 1, 11))
    for low, high in itertools.pairwise(edges):
        inside = np.flatnonzero((p >= low) & (p <= high))
        residual = up[inside] - p[inside]
        days = inside // 288
        sums = np.bincount(days, residual)
        error = np.sqrt((sums**2).sum()) / len(inside)
        assert abs(residual.mean()) < 4.5 * error
        assert error < 0.02


def test_mean_and_deviation_are_those_of_the_realised_returns(samples):
    realised, mean, std = (joined(samples, name) for name in ("realised", "mean", "std"))
    standard = np.clip((realised - mean) / std, -8, 8)
    assert abs(standard.mean()) < 0.03
    assert 0.95 < standard.std() < 1.05
    slope = (realised / std * (mean / std)).sum() / ((mean / std) ** 2).sum()
    assert 0.88 < slope < 1.12


def test_a_shuffled_truth_knows_nothing(samples):
    p, up = joined(samples, "p_up"), joined(samples, "realised") > 0
    assert abs(auc(np.random.default_rng(1).permutation(p), up) - 0.5) < 0.01


def test_the_bars_tell_nearly_all_of_it(samples):
    """A regression on four bars' taker imbalance, fitted on half of the symbols, tried on the rest."""
    half = len(samples) // 2
    design = [np.column_stack((np.ones(len(s.p_up)), s.imbalance)) for s in samples]
    fit = np.concatenate(design[:half])
    target = np.concatenate([np.sign(s.realised) for s in samples[:half]])
    weights, *_ = np.linalg.lstsq(fit, target, rcond=None)
    score = np.concatenate(design[half:]) @ weights
    up = joined(samples[half:], "realised") > 0
    best = auc(joined(samples[half:], "p_up"), up)
    assert auc(score, up) - 0.5 > 0.85 * (best - 0.5)


def test_anomalies_are_told_and_visible():
    market = SimulatedMarket(8, 3)
    jumps, spikes = [], []
    for symbol in market.specs:
        for anomaly in planted_anomalies(market, symbol, NOW_MS - 60 * DAY_MS, NOW_MS - DAY_MS, NOW_MS):
            at = anomaly["start_time"]
            query = KlineQuery(symbol, "1m", at - 240 * MINUTE_MS, at, 1000)
            times, bars = market.select(query, NOW_MS)
            assert times[-1] == at
            move = np.abs(np.diff(np.log(bars[:, CLOSE].astype(float))))
            if anomaly["kind"] == "jump":
                jumps.append(move[-1] / move[:-1].mean())
            elif anomaly["kind"] == "volume":
                spikes.append(bars[-1, VOLUME] / np.median(bars[:-1, VOLUME]))
    assert len(jumps) > 10
    assert np.median(jumps) > 10
    assert len(spikes) > 3
    assert np.median(spikes) > 5
