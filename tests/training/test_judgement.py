"""The judgement's figures against plain formulas, its intervals against known truths, its words against its figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import spearmanr

from training import scores
from training.baselines.protocol import said_of_probability
from training.block_interval import LEAST_BLOCKS, block_interval, blocks_of
from training.bootstrap import BlockDraws, Statistic
from training.judgement.ranks import across_symbols, over_time
from training.judgement.results import Figure
from training.judgement.sample import Sample
from training.judgement.scoring import differences, scored
from training.judgement.statistics import bin_edges, ratio, statistics_of, trading_statistics
from training.judgement.strategy import trades_of

LEVELS = (0.1, 0.5, 0.9)


def _sample(times: int = 400, symbols: int = 4, *, seed: int = 0, missing: float = 0.1) -> Sample:
    rng = np.random.default_rng(seed)
    there = rng.random((times, symbols)) >= missing
    place, symbol = np.nonzero(there)
    n = len(place)
    volatility = 0.01 * np.exp(rng.normal(0, 0.2, n))
    returns = volatility * rng.standard_normal(n)
    scaled = returns / volatility
    return Sample(
        place=place,
        symbol=symbol,
        fold=(place >= times // 2).astype(int),
        direction=np.where(scaled > 0.5, 2, np.where(scaled < -0.5, 0, 1)),
        log_return=returns,
        volatility=volatility,
        realised_volatility=volatility * np.exp(rng.normal(0, 0.3, n)),
        times=times,
        symbols=symbols,
        horizon=3,
        levels=LEVELS,
        open_time=np.arange(times) * 300_000,
    )


def _said(sample: Sample, *, seed: int = 1, skill: float = 0.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 0.5, (len(sample), 3))
    logits[np.arange(len(sample)), sample.direction] += skill
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    quantiles = sample.volatility[:, None] * (
        np.array([-1.2, 0.0, 1.2]) + rng.normal(0, 0.1, (len(sample), 1))
    )
    return said_of_probability(p, quantiles=quantiles, volatility=sample.volatility * 1.1)


def test_every_score_is_that_of_its_formula() -> None:
    sample = _sample()
    said = _said(sample)
    found = {
        name: s.value for name, s in statistics_of(sample, said, bin_edges(said.probability, 10)).items()
    }
    outcome = sample.log_return / sample.volatility
    scaled = said.quantiles / sample.volatility[:, None]
    came, forecast = sample.realised_volatility, said.volatility
    spread = sum(
        ((came[sample.symbol == s] - came[sample.symbol == s].mean()) ** 2).sum()
        for s in range(sample.symbols)
    )
    r = (came / forecast) ** 2
    expected = {
        "accuracy": scores.accuracy(said.predicted, sample.direction),
        "balanced_accuracy": scores.balanced_accuracy(said.predicted, sample.direction),
        "auc_sign": scores.auc(said.score, sample.log_return > 0),
        "log_loss": scores.log_loss(said.probability, sample.direction),
        "brier": scores.brier(said.probability, sample.direction),
        "pinball": np.mean([scores.pinball(scaled[:, i], outcome, q) for i, q in enumerate(LEVELS)]),
        "coverage": scores.coverage(scaled[:, 0], scaled[:, 2], outcome),
        "volatility_r2": 1 - ((came - forecast) ** 2).sum() / spread,
        "volatility_qlike": (r - np.log(r) - 1).mean(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name
    by_time = [
        spearmanr(said.score[sample.place == t], sample.log_return[sample.place == t]).statistic
        for t in range(sample.times)
        if (sample.place == t).sum() >= 3
    ]
    assert found["rank_ic"] == pytest.approx(np.mean(by_time))
    by_symbol = [(sample.symbol == s) for s in range(sample.symbols)]
    own = [spearmanr(said.score[m], sample.log_return[m]).statistic for m in by_symbol]
    assert found["rank_ic_time"] == pytest.approx(np.average(own, weights=[m.sum() for m in by_symbol]))


def test_calibration_error_is_the_mean_gap_over_bins() -> None:
    sample = _sample(2000, 4)
    said = _said(sample)
    edges = bin_edges(said.probability, 10)
    gaps = []
    for label in range(3):
        p, hit = said.probability[:, label], sample.direction == label
        index = np.searchsorted(edges[label], p)
        assert np.bincount(index).min() > 0.09 * len(p)
        gaps.append(sum(abs((hit[index == b] - p[index == b]).sum()) for b in range(10)) / len(p))
    found = statistics_of(sample, said, edges)["ece"].value
    assert found == pytest.approx(np.mean(gaps))
    frequency = np.bincount(sample.direction, minlength=3) / len(sample)
    honest = said_of_probability(np.tile(frequency, (len(sample), 1)))
    assert statistics_of(sample, honest, bin_edges(honest.probability, 10))["ece"].value == pytest.approx(0)


def test_draws_are_the_scores_of_data_made_of_blocks() -> None:
    sample = _sample(100, 3)
    said = _said(sample)
    statistics = statistics_of(sample, said, bin_edges(said.probability, 5))
    found = BlockDraws(100, block=20, draws=30, seed=5).of(statistics["log_loss"])
    starts = np.random.default_rng(5).integers(0, 81, (30, 5))
    loss = -np.log(said.probability[np.arange(len(sample)), sample.direction])
    for draw, drawn in zip(found, starts, strict=True):
        rows = np.concatenate([np.flatnonzero((sample.place >= s) & (sample.place < s + 20)) for s in drawn])
        assert draw == pytest.approx(loss[rows].mean())


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Means of an AR(1) series: blocks keep its memory, single bars would not."""
    rng = np.random.default_rng(0)
    held = {1: 0, 50: 0}
    for _ in range(120):
        series = lfilter([1.0], [1.0, -0.8], rng.standard_normal(1500))
        statistic = Statistic(np.column_stack([series, np.ones(1500)]), ratio)
        for block in held:
            draws = BlockDraws(1500, block=block, draws=100, seed=1).of(statistic)
            low, high = block_interval(statistic.value, draws, 0.95, blocks=1500 // block)
            held[block] += low <= 0 <= high
    assert held[50] / 120 > 0.85
    assert held[1] / 120 < 0.70


@pytest.mark.parametrize("blocks", [10, 20])
def test_few_blocks_make_an_interval_wider(blocks: int) -> None:
    """Sums over a horizon of 6 in blocks of 48; percentiles alone miss the truth in about 10 %."""
    rng, times, missed = np.random.default_rng(1), 48 * blocks, 0
    for _ in range(600):
        series = np.convolve(rng.standard_normal(times + 5), np.ones(6), "valid")
        statistic = Statistic(np.column_stack([series, np.ones(times)]), ratio)
        draws = BlockDraws(times, block=48, draws=200, seed=1).of(statistic)
        low, high = block_interval(statistic.value, draws, 0.95, blocks=blocks)
        missed += not low <= 0 <= high
    assert missed / 600 < 0.09


def test_too_few_blocks_make_no_interval_and_no_verdict() -> None:
    assert blocks_of(np.repeat(np.arange(100), 5), 48) == 2, "distinct times, not rows"
    draws = np.linspace(0, 1, 101)
    assert block_interval(0.5, draws, 0.95, blocks=LEAST_BLOCKS - 1) is None
    low, high = block_interval(0.5, draws, 0.95, blocks=10**6)
    assert (low, high) == pytest.approx((0.025, 0.975), abs=1e-3), "the percentiles, in the limit"
    sample = _sample(24 * LEAST_BLOCKS - 1, 3, missing=0.0)
    found = _compared(sample, _said(sample, skill=2.0), _said(sample, seed=3))["auc_sign"]
    assert found.figure.value > 0.2
    assert (found.figure.low, found.figure.high, found.verdict) == (None, None, "cannot be told")


def test_the_interval_of_the_auc_is_that_of_an_exact_bootstrap() -> None:
    sample = _sample(3000, 3, missing=0.0)
    said = _said(sample, skill=0.3)
    statistic = statistics_of(sample, said, None)["auc_sign"]
    draws = BlockDraws(3000, block=24, draws=400, seed=1).of(statistic)
    low, high = block_interval(statistic.value, draws, 0.95, blocks=125)
    exact = scores.auc_interval(said.score, sample.log_return > 0, sample.place, block=24, draws=400, seed=2)
    assert statistic.value > 0.55
    assert (low, high) == pytest.approx(exact, abs=0.003)


def _compared(sample: Sample, one, other):
    draws = BlockDraws(sample.times, block=24, draws=300, seed=1)
    blocks = blocks_of(sample.place, 24)
    both = {
        name: scored(statistics_of(sample, said, None), draws, 0.95, blocks=blocks)
        for name, said in (("a", one), ("b", other))
    }
    values, drawn = ({name: found[i] for name, found in both.items()} for i in (0, 1))
    return {d.score: d for d in differences("a", values, drawn, [values], 0.95, blocks=blocks)}


def test_verdicts_say_better_worse_and_neither() -> None:
    sample = _sample(1500, 3)
    good, bad = _said(sample, skill=0.4), _said(sample, seed=3)
    assert _compared(sample, good, bad)["auc_sign"].verdict == "better"
    assert _compared(sample, bad, good)["auc_sign"].verdict == "worse"
    assert _compared(sample, good, good)["auc_sign"].verdict == "cannot be told"
    pinball = _compared(sample, good, bad)["pinball"]  # the quantiles of both are equally good
    assert pinball.verdict == "cannot be told" and pinball.figure.low < 0 < pinball.figure.high


def test_positions_are_held_without_overlap_and_pay_for_what_changes_hands() -> None:
    times, h = 8, 2
    returns = np.log1p(np.array([0.01, 0.02, -0.01, 0.03, 0.0, -0.02, 0.01, 0.01]))
    sample = Sample(
        place=np.arange(times), symbol=np.zeros(times, int), fold=np.zeros(times, int),
        direction=np.ones(times, int), log_return=returns, volatility=np.ones(times),
        realised_volatility=np.ones(times), times=times, symbols=1, horizon=h, levels=LEVELS,
        open_time=np.arange(times),
    )  # fmt: skip
    score = np.array([0.9, -0.9, 0.9, 0.9, 0.1, -0.9, -0.9, 0.0])
    trades = trades_of(sample, score, {0: 0.5}, cost=0.001)
    position = [1, -1, 1, 1, 0, -1, -1, 0]
    np.testing.assert_allclose(trades.gross[:, 0], position * np.expm1(returns), rtol=1e-5)
    # from 0 to 1, 0 to -1, 1 to 1, -1 to 1, 1 to 0, 1 to -1, 0 to -1 and sold, -1 to 0
    np.testing.assert_array_equal(trades.turnover[:, 0], [1, 1, 0, 2, 1, 2, 2, 1])
    net = trades.gross - 0.001 * trades.turnover
    np.testing.assert_allclose(trades.net, net)
    columns = [array[:, 0].astype(float) for array in (trades.gross, trades.turnover, trades.net)]
    found = trading_statistics(*columns, np.ones(times), periods_per_year=100.0)
    assert found["net_bps"].value == pytest.approx(1e4 * net.mean(), rel=1e-5)
    assert found["turnover"].value == pytest.approx(10 / 8)
    assert found["sharpe_net"].value == pytest.approx(10 * net.mean() / net.std(), rel=1e-4)


def test_trading_on_noise_loses_what_it_costs_and_a_constant_forecast_does_not_trade() -> None:
    sample = _sample(4000, 4, missing=0.0)
    noise = np.random.default_rng(7).standard_normal(len(sample))
    trades = trades_of(sample, noise, {0: 1.0, 1: 1.0}, cost=0.0006)
    loss = trades.cost * trades.turnover.mean()
    error = trades.gross.std() / math.sqrt(trades.gross.size)
    assert abs(trades.net.mean() + loss) < 4 * error
    constant = trades_of(sample, np.full(len(sample), 0.2), {0: 0.2, 1: 0.2}, cost=0.0006)
    assert not constant.turnover.any() and not constant.gross.any()


def test_rank_correlations_need_symbols_and_differences() -> None:
    sample = _sample(50, 2, missing=0.0)
    score = np.random.default_rng(0).standard_normal(len(sample))
    assert not across_symbols(sample, score)[1].any()
    assert not over_time(sample, np.zeros(len(sample))).any()


def test_a_figure_without_draws_has_no_interval() -> None:
    from training.judgement.scoring import figure

    assert figure(0.5, np.array([np.nan]), 0.95, blocks=99) == Figure(value=0.5, low=None, high=None)
