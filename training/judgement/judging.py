"""The scores of a judgement: of all folds together, of each fold and of each symbol, from the same draws."""

from __future__ import annotations

import hashlib

import numpy as np

from market.intervals import interval_ms
from training.block_interval import blocks_of
from training.bootstrap import BlockDraws
from training.config import CLASSES, ForecasterConfig
from training.data.folds import Fold
from training.data.training_set import TrainingSet
from training.errors import EvaluationError
from training.judgement.forecasts import FORECASTER, Made
from training.judgement.results import Bin, Curve, FoldScores, Judgement, Scores
from training.judgement.sample import Floats, Sample, sample_of
from training.judgement.scoring import Drawn, differences, figure, joined, only, scored
from training.judgement.settings import JudgementSettings
from training.judgement.statistics import bin_columns, bin_edges, statistics_of, trading_statistics
from training.judgement.strategy import Trades, trades_of
from training.progress import Counted

BINS = 10
CURVE_POINTS = 200
LEAST_ROWS = 30
"""A symbol with fewer rows is not judged on its own."""
_YEAR_MS = 365 * 86_400_000


class Judging:
    """The forecasts of all folds, joined, and the scores of any part of them."""

    def __init__(
        self,
        folds: list[Fold],
        made: list[dict[str, Made]],
        settings: JudgementSettings,
        scoring: Counted | None,
    ) -> None:
        self.folds, self.made, self.settings, self.scoring = folds, made, settings, scoring
        self.done = 0
        self.sample = sample_of(folds)
        if not len(self.sample):
            raise EvaluationError(
                "there is nothing to judge", where="the test rows of all folds", remedy="use a longer history"
            )
        self.said = {name: joined(fold[name].said for fold in made) for name in made[0]}
        self.edges = {
            name: bin_edges(said.probability, BINS)
            for name, said in self.said.items()
            if said.probability is not None
        }
        self.trades = {
            name: trades_of(self.sample, said.score, self._thresholds(name), settings.cost)
            for name, said in self.said.items()
            if said.score is not None
        }
        step = interval_ms(folds[0].data.manifest.interval)
        self.periods_per_year = _YEAR_MS / (step * self.sample.horizon)

    def judgement(self, data: TrainingSet, config: ForecasterConfig) -> Judgement:
        """Score everything."""
        draws = self._draws(self.sample)
        scores: dict[str, Scores] = {}
        drawn: dict[str, Drawn] = {}
        for name in self.said:
            scores[name], drawn[name] = self._scored(name, self.sample, draws)
        folds = tuple(self._fold(fold) for fold in self.folds)
        identity = [
            data.manifest.training_set_id,
            config.model_dump_json(),
            self.settings.model_dump_json(),
            *(f"{fold.scores}" for fold in folds),
        ]
        return Judgement(
            judgement_id=hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16],
            training_set_id=data.manifest.training_set_id,
            interval=data.manifest.interval,
            symbol_names=data.manifest.symbols,
            config=config,
            settings=self.settings,
            rows=len(self.sample),
            bars=self.sample.times,
            blocks=self._blocks(self.sample),
            first_time=int(self.sample.open_time[0]),
            last_time=int(self.sample.open_time[-1]),
            scores=scores,
            symbols=self._by_symbol(data.manifest.symbols),
            folds=folds,
            differences=differences(
                FORECASTER,
                scores,
                drawn,
                [fold.scores for fold in folds],
                self.settings.level,
                blocks=self._blocks(self.sample),
            ),
            reliability={name: self._reliability(name, draws) for name in self.edges},
            curves={name: self._curve(trades) for name, trades in self.trades.items()},
        )

    def _thresholds(self, name: str) -> dict[int, float]:
        return {fold.index: made[name].threshold for fold, made in zip(self.folds, self.made, strict=True)}

    def _draws(self, sample: Sample) -> BlockDraws:
        settings = self.settings
        return BlockDraws(
            sample.times, block=settings.block_bars(sample.horizon), draws=settings.draws, seed=settings.seed
        )

    def _blocks(self, sample: Sample) -> int:
        """Blocks of bars that have rows: a symbol that is seldom there has fewer of them than the span."""
        return blocks_of(sample.place, self.settings.block_bars(sample.horizon))

    def _scored(
        self,
        name: str,
        sample: Sample,
        draws: BlockDraws,
        *,
        mine: np.ndarray | None = None,
        bars: slice = slice(None),
        symbol: int | None = None,
    ) -> tuple[Scores, Drawn]:
        """Score one forecast on the rows `mine` of the whole sample, which are those of `sample`."""
        if self.scoring is not None:
            self.scoring(self.done, len(self.said) * (1 + len(self.folds) + self.sample.symbols))
            self.done += 1
        said = self.said[name] if mine is None else only(self.said[name], mine)
        statistics = statistics_of(sample, said, self.edges.get(name))
        if symbol is not None:
            statistics.pop("rank_ic", None)  # of one symbol among itself
        if name in self.trades:
            there = np.bincount(sample.place, minlength=sample.times) > 0
            figures = _trading(self.trades[name], bars, symbol)
            statistics |= trading_statistics(*figures, there.astype(np.float64), self.periods_per_year)
        return scored(statistics, draws, self.settings.level, blocks=self._blocks(sample))

    def _fold(self, fold: Fold) -> FoldScores:
        sample, mine, bars = self.sample.of_fold(fold.index)
        draws = self._draws(sample)
        manifest, made = fold.data.manifest, self.made[self.folds.index(fold)]
        return FoldScores(
            index=fold.index,
            training_set_id=manifest.training_set_id,
            spans=fold.spans,
            counts=fold.counts,
            class_share=manifest.class_share,
            scores={name: self._scored(name, sample, draws, mine=mine, bars=bars)[0] for name in self.said},
            seconds={name: round(made[name].seconds, 3) for name in made},
        )

    def _by_symbol(self, names: tuple[str, ...]) -> dict[str, dict[str, Scores]]:
        draws = self._draws(self.sample)
        found = {}
        for index, symbol in enumerate(names):
            sample, mine = self.sample.of_symbol(index)
            if len(sample) >= LEAST_ROWS:
                found[symbol] = {
                    name: self._scored(name, sample, draws, mine=mine, symbol=index)[0] for name in self.said
                }
        return found

    def _reliability(self, name: str, draws: BlockDraws) -> dict[str, tuple[Bin, ...]]:
        probability = self.said[name].probability
        assert probability is not None
        found = {}
        for label, (title, edges) in enumerate(zip(CLASSES, self.edges[name], strict=True)):
            columns = bin_columns(self.sample, probability[:, label], edges, label)
            found[title] = _bins(
                columns.sum(axis=0),
                draws.sums(columns),
                self.settings.level,
                blocks=self._blocks(self.sample),
            )
        return found

    def _curve(self, trades: Trades) -> Curve:
        """Sum of net returns of the mean strategy: each bar begins one of `horizon` of them."""
        net = trades.net.mean(axis=1, dtype=np.float64).cumsum() / self.sample.horizon
        at = np.unique(np.linspace(0, len(net) - 1, CURVE_POINTS).astype(int))
        return Curve(
            open_time=tuple(self.sample.open_time[at].tolist()), value=tuple(np.round(net[at], 6).tolist())
        )


def _trading(trades: Trades, bars: slice, symbol: int | None) -> tuple[Floats, Floats, Floats]:
    """Gross return, turnover and net return per bar, of one symbol or in the mean of all."""
    columns = slice(None) if symbol is None else slice(symbol, symbol + 1)
    gross, turnover = (
        array[bars, columns].mean(axis=1, dtype=np.float64) for array in (trades.gross, trades.turnover)
    )
    return gross, turnover, gross - trades.cost * turnover


def _bins(sums: Floats, drawn: Floats, level: float, *, blocks: int) -> tuple[Bin, ...]:
    count, said, came = np.split(sums, 3)
    counts, _, comes = np.split(drawn, 3, axis=1)
    found = []
    for b in np.flatnonzero(count):
        frequency = comes[:, b] / np.where(counts[:, b] > 0, counts[:, b], np.nan)
        told = figure(float(came[b] / count[b]), frequency, level, blocks=blocks)
        found.append(
            Bin(
                said=float(said[b] / count[b]),
                came=told.value,
                low=told.low,
                high=told.high,
                rows=int(count[b]),
            )
        )
    return tuple(found)
