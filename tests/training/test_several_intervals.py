"""Training sets of several intervals: what a window shows, and what it must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.compute import FeatureBlock
from kernels.joins import IntervalFeatures, JoinedFeatures
from training.config import ForecasterConfig
from training.data import set_arrays
from training.data.dataset import TrainingSet, build_training_set
from training.data.splits import SPLITS
from training.errors import TrainingSetError

FIVE, HOUR = 300_000, 3_600_000
LONGER = ("realised_vol_30", "noise_9")


def longer_block(bars: int = 52, seed: int = 5) -> FeatureBlock:
    """52 hours from an hour before the market of the fixture to after its end, 50 hours later."""
    values = np.random.default_rng(seed).normal(size=(2, bars, 3)).astype(np.float32)
    times = HOUR * np.arange(-1, bars - 1, dtype=np.int64)
    return FeatureBlock(values, LONGER, times, ("C0USDT", "C1USDT", "C2USDT"))


def joined(market: Any, longer: FeatureBlock) -> JoinedFeatures:
    return JoinedFeatures(IntervalFeatures("5m", FIVE, market.block), [IntervalFeatures("1h", HOUR, longer)])


def build(market: Any, longer: FeatureBlock, config: ForecasterConfig, out: Path) -> TrainingSet:
    return build_training_set(joined(market, longer), market.close, "5m", config, out)


def test_a_window_shows_the_hours_that_had_closed(
    market: Any, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    longer = longer_block()
    made = build(market, longer, tiny, tmp_path / "set")
    assert made.feature_names == (*market.block.names, "realised_vol_30@1h", "noise_9@1h")
    assert made.manifest.intervals == ("5m", "1h")
    assert made.manifest.volatility_feature == "realised_vol_30", "of the bars' own interval"
    for split in SPLITS:
        rows = made.rows[split][::37]
        for window, (t, s) in zip(made.windows(rows), rows.tolist(), strict=True):
            own = market.block.values[:, t - tiny.window + 1 : t + 1, s].T
            assert np.array_equal(window[:, :5], own)
            hours = [
                (bar + 1) // 12 - 1 + 1 for bar in range(t - tiny.window + 1, t + 1)
            ]  # one before the market
            assert np.array_equal(window[:, 5:], longer.values[:, hours, s].T)


def test_hours_that_close_later_change_no_window(market: Any, tiny: ForecasterConfig, tmp_path: Path) -> None:
    longer = longer_block()
    made = build(market, longer, tiny, tmp_path / "one")
    hour = 30  # of the block; it opens at bar 348 and closes with bar 359
    values = longer.values.copy()
    values[:, hour:] += 7
    other = build(market, replace(longer, values=values), tiny, tmp_path / "other")
    for split in SPLITS:
        assert np.array_equal(made.rows[split], other.rows[split])
    assert np.array_equal(made.features[:, :359], other.features[:, :359], equal_nan=True)
    assert (made.features[:, 359:371, 5:] != other.features[:, 359:371, 5:]).all(), "seen from its close on"
    assert np.array_equal(made.features[:, :, :5], other.features[:, :, :5], equal_nan=True)


def test_a_missing_hour_takes_out_the_windows_that_should_show_it(
    market: Any, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    config = tiny.model_copy(update={"max_windows": 10**6})
    longer = longer_block()
    longer.values[0, 20, 1] = np.nan  # shown at bars 239..250
    made = build(market, longer, config, tmp_path / "set")
    rows = {(int(t), int(s)) for split in SPLITS for t, s in made.rows[split]}
    present = {t for t, s in rows if s == 1}
    assert present.isdisjoint(range(239, 251 + tiny.window - 1))
    assert {238, 251 + tiny.window - 1} <= present
    assert {239, 250} <= {t for t, s in rows if s == 0}
    counts = dict(made.manifest.counts)
    assert counts.pop("grid") == sum(counts.values())


def test_one_interval_alone_is_the_same_set_as_before(
    market: Any, built: TrainingSet, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    alone = JoinedFeatures(IntervalFeatures("5m", FIVE, market.block))
    made = build_training_set(alone, market.close, "5m", tiny, tmp_path / "other")
    assert made.manifest == built.manifest
    assert made.manifest.intervals == ("5m",)


def test_the_size_of_the_pieces_changes_no_byte(
    market: Any, tiny: ForecasterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market.close[200:210, 1] = np.nan
    whole = build(market, longer_block(), tiny, tmp_path / "whole")
    monkeypatch.setattr(set_arrays, "CHUNK_VALUES", 7 * 3 * 11)  # 11 bars a piece
    pieces = build(market, longer_block(), tiny, tmp_path / "pieces")
    for file in sorted(whole.path.glob("*.npy")):
        assert file.read_bytes() == (pieces.path / file.name).read_bytes(), file.name
    assert pieces.manifest.counts == whole.manifest.counts
    assert pieces.manifest.class_share == whole.manifest.class_share
    assert np.allclose(pieces.manifest.normalisation.std, whole.manifest.normalisation.std, rtol=1e-12)


def test_the_volatility_of_a_longer_interval_scales_nothing(
    market: Any, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    config = tiny.model_copy(update={"volatility_feature": "realised_vol_30@1h"})
    with pytest.raises(TrainingSetError, match="own interval"):
        build(market, longer_block(), config, tmp_path / "set")


def test_windows_are_views_until_a_batch_is_gathered(
    market: Any, tiny: ForecasterConfig, tmp_path: Path, planted: Callable[..., Any]
) -> None:
    made = build(market, longer_block(), tiny, tmp_path / "set")
    base: Any = made.features
    while isinstance(base, np.ndarray):
        assert not base.flags.owndata
        base = base.base
    assert type(base).__name__ == "mmap", "the array is the file"
    batch = next(made.batches("train", 16))
    assert batch.windows.nbytes == 16 * tiny.window * 7 * 4
