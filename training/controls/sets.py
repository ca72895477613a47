"""Training sets of the controls: shuffled labels, a random walk, and a small market with the planted signal."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kernels.catalogue import model_features, spec
from kernels.compute import compute
from kernels.joins import IntervalFeatures, JoinedFeatures, features_by_interval
from market.intervals import interval_ms
from training.config import ForecasterConfig
from training.controls.markets import SyntheticMarket, longer_bars, planted_market, planted_p_up, random_walk
from training.data.dataset import build_training_set, evenly, span_of
from training.data.set_arrays import class_share
from training.data.splits import SPLITS
from training.data.targets import NO_TARGET
from training.data.training_set import TrainingSet
from training.errors import TrainingSetError
from training.evaluate import BLOCK_HORIZONS

LEAST_BLOCKS: Final = 6
"""Blocks that a split is cut into, at least, to shuffle its labels."""

WALK_SYMBOLS: Final = 4
WALK_BLOCKS: Final = 32
"""Blocks of `BLOCK_HORIZONS` horizons in the test split of a random walk."""
_WALK_SHARES: Final = {"train_share": 0.5, "validation_share": 0.1}

PLANTED_INTERVAL: Final = "5m"
PLANTED_HORIZON: Final = 6
PLANTED_SYMBOLS: Final = 20
PLANTED_BARS: Final = 16_000


def shuffled_labels(data: TrainingSet, *, seed: int = 0) -> TrainingSet:
    """Give the same windows with labels of other times, so that no window can tell its label.

    Within each split and symbol, time is cut into equal blocks, and the labels of a block come from another block, in
    their order and in units of volatility: the one known at t scales them back.

    - Labels of neighbouring bars overlap, so single labels must not be dealt out: two bars that share most of a label
      could fall to either side. Whole blocks keep that overlap where it was, and with it the width of intervals.
    - A block never stays in place and is longer than the horizon, so no label lies where the true one does. Where a
      sixth of the split is as long as window + horizon, a block is, too, and a label lies wholly outside of the window
      that it is given to. In shorter splits a block is about a sixth of them, and a label may lie inside a window that
      comes less than window + horizon bars later. That, and what slow features remember beyond the window, is of
      little use, since the distance differs from block to block and from symbol to symbol.
    - The length shares no factor with the hours of a day and the days of a week. A circular shift, or blocks of whole
      days, would keep the hour of a label in step with that of its window, and how lively an hour is can be learned.
    - Training labels stay among the training labels: were they exchanged with those of the test, more rises here
      would be fewer there, and an honest model would come out worse than chance.

    It is judged on the shuffled labels of the test. On the true ones a model that learned nothing need not come out at
    chance: any function of the inputs may happen to follow a market's signal, or to go against it.

    Parameters
    ----------
    data
        Any training set; nothing of it is changed.
    seed
        Of the order of the blocks.

    Returns
    -------
    TrainingSet
        A view with targets of its own, (T, S) each in memory; rows whose new label is missing are left out.

    Raises
    ------
    TrainingSetError
        A split is too short to be cut.
    """
    random = np.random.default_rng(seed)
    direction = np.full(data.direction.shape, NO_TARGET, np.int8)
    log_return, realised = (np.full(data.direction.shape, np.nan, np.float32) for _ in range(2))
    for split in SPLITS:
        bars = slice(int(data.rows[split][0, 0]), int(data.rows[split][-1, 0]) + 1)
        source = _other_blocks(data, split, bars.stop - bars.start, random)
        here = slice(bars.start, bars.start + len(source))
        own = data.volatility[here]
        take = (bars.start + source, np.arange(source.shape[1]))
        scale = own / data.volatility[take]
        direction[here] = np.where(np.isfinite(scale), data.direction[take], NO_TARGET)
        log_return[here] = data.log_return[take] * scale
        realised[here] = data.realised_volatility[take] * scale
    changed = replace(data, direction=direction, log_return=log_return, realised_volatility=realised)
    labelled = {
        split: rows[direction[rows[:, 0], rows[:, 1]] != NO_TARGET] for split, rows in data.rows.items()
    }
    return with_rows(changed, labelled, f"labels shuffled with seed {seed}")


def with_rows(data: TrainingSet, rows: dict[str, NDArray[np.int32]], changed: str) -> TrainingSet:
    """Give a view of a training set with other rows; `changed` says what else is new about it.

    Raises
    ------
    TrainingSetError
        A split has no rows.
    """
    for split, index in rows.items():
        if not len(index):
            raise TrainingSetError(
                f"no row is left ({changed})", where=f"split {split}", remedy="use a longer history"
            )
    digest = hashlib.sha256(f"{data.manifest.training_set_id} {changed}".encode())
    for split in SPLITS:
        digest.update(np.ascontiguousarray(rows[split]).tobytes())
    manifest = data.manifest.model_copy(
        update={
            "training_set_id": digest.hexdigest()[:16],
            "spans": {
                split: span_of(index, data.open_time, data.manifest.config) for split, index in rows.items()
            },
            "class_share": {split: class_share(data.direction, index) for split, index in rows.items()},
        }
    )
    return replace(data, manifest=manifest, rows=rows)


def thinned(data: TrainingSet, *, train: int, test: int, seed: int = 0) -> TrainingSet:
    """Keep at most so many rows of training and test (validation as test), evenly over time."""
    keep = {"train": train, "validation": test, "test": test}
    rows = {split: index[evenly(len(index), keep[split], seed)] for split, index in data.rows.items()}
    return with_rows(data, rows, "thinned")


def random_walk_set(
    interval: str, features: Sequence[str], config: ForecasterConfig, out: Path, *, seed: int = 0
) -> TrainingSet:
    """Build the training set of a random walk: bars of the interval, through the same kernels, joins and builder.

    Parameters
    ----------
    interval, features
        The model's own; features of longer intervals (``rsi_14@1h``) are joined as they are for the model.
    config
        Window, horizon and the like are the model's; the shares of the splits are the control's own.
    out
        Folder to write.
    seed
        Of the walk.

    Raises
    ------
    TrainingSetError
        What `build_training_set` says.
    """
    by_interval = features_by_interval(features, interval)
    step = interval_ms(interval)
    lead = max(
        (spec(name).warmup + 1) * math.ceil(interval_ms(longer) / step)
        for longer, names in by_interval.items()
        for name in names
    )
    test_bars = WALK_BLOCKS * BLOCK_HORIZONS * config.horizon
    test_share = 1 - sum(_WALK_SHARES.values())
    bars = lead + 2 * config.window + math.ceil((test_bars + 2 * config.embargo) / test_share)
    walk = random_walk(interval, bars=bars, symbols=WALK_SYMBOLS, seed=seed)
    own = IntervalFeatures(interval, step, compute(walk, by_interval.pop(interval)))
    longer = [
        IntervalFeatures(other, interval_ms(other), compute(longer_bars(walk, other), names))
        for other, names in by_interval.items()
    ]
    joined = JoinedFeatures(own, longer)
    order = [joined.names.index(name) for name in features]
    if order != list(range(len(order))):
        raise TrainingSetError(
            "features of the model's own interval must come first, those of each longer one together",
            where="feature list",
            remedy="build the training set with `kernels.joins.JoinedFeatures`",
        )
    settings = config.model_copy(update=_WALK_SHARES)
    return build_training_set(joined, walk.columns["close"], interval, settings, out)


def planted_set(
    config: ForecasterConfig, out: Path, *, seed: int = 0, bars: int = PLANTED_BARS
) -> tuple[TrainingSet, NDArray[np.float64]]:
    """Build the training set of a small market with the planted signal, and tell the best forecast of its test.

    Returns
    -------
    data, best_p_up
        The set, of the features that the forecaster is fed with by default, and the true probability (n,) of a rise
        for each of its test rows.
    """
    market: SyntheticMarket = planted_market(
        bars=bars, symbols=PLANTED_SYMBOLS, seed=seed, interval=PLANTED_INTERVAL
    )
    settings = config.model_copy(update={"horizon": PLANTED_HORIZON, "volatility_feature": None})
    block = compute(market, model_features(market.open_time))
    data = build_training_set(block, market.columns["close"], PLANTED_INTERVAL, settings, out)
    best = planted_p_up(market, seed=seed, horizon=PLANTED_HORIZON)
    test = data.rows["test"]
    return data, best[test[:, 0], test[:, 1]]


def _other_blocks(data: TrainingSet, split: str, bars: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Bar (n, S), from the start of the split, whose label each bar is given; n is bars, less what fills no block."""
    config = data.manifest.config
    least = max(config.horizon + 1, min(config.window + config.horizon, bars // LEAST_BLOCKS))
    if bars < LEAST_BLOCKS * least:
        raise TrainingSetError(
            f"{bars} bars are too few to shuffle labels of {config.horizon} bars: {LEAST_BLOCKS * least} are needed",
            where=f"split {split}",
            remedy="use a longer history, or a shorter horizon",
        )
    length = _length_of_blocks(bars, least)
    blocks = bars // length
    columns = [
        (_derangement(blocks, random)[:, None] * length + np.arange(length)).ravel()
        for _ in data.manifest.symbols
    ]
    return np.stack(columns, axis=1)


def _length_of_blocks(bars: int, least: int) -> int:
    """Length from `least` on, with no factor 2, 3, 5 or 7, that leaves fewest bars over; `least` if there is none."""
    most = max(least, bars // LEAST_BLOCKS)
    found = [length for length in range(least, min(most, 2 * least) + 1) if math.gcd(length, 210) == 1]
    return max(found, key=lambda length: (bars // length * length, -length), default=least)


def _derangement(n: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw an order of n things in which none keeps its place."""
    while True:
        order = random.permutation(n)
        if (order != np.arange(n)).all():
            return order
