"""Walk-forward folds: where every row goes, what overlaps with what, and that nothing is known before its time."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from training.data.dataset import TrainingSet, build_training_set
from training.data.folds import walk_forward
from training.data.splits import SPLITS
from training.errors import TrainingSetError


@pytest.fixture
def data(market, tiny, tmp_path: Path) -> TrainingSet:
    config = tiny.model_copy(update={"max_windows": 300, "extra_embargo": 2})
    return build_training_set(market.block, market.close, "5m", config, tmp_path / "set")


def _labels(rows: np.ndarray, horizon: int) -> set[int]:
    return {int(t) + ahead for t in np.unique(rows[:, 0]) for ahead in range(1, horizon + 1)}


def test_a_fold_is_cut_where_the_definition_says(data: TrainingSet) -> None:
    folds = walk_forward(data, 3, min_train_share=0.5)
    first, stop = 37, 597
    tests = [first + 280, first + 280 + 93, first + 280 + 186, stop]
    embargo, horizon = 3 + 2, 3
    assert [fold.index for fold in folds] == [0, 1, 2]
    for fold, (test, end) in zip(folds, pairwise(tests), strict=True):
        boundary = first + int((test - first) * 0.70 / 0.85)
        expected = {
            "train": (first, boundary - horizon),
            "validation": (boundary + embargo, test - horizon),
            "test": (test + embargo, end),
        }
        for name, (low, high) in expected.items():
            times = fold.data.rows[name][:, 0]
            assert low <= times.min() and times.max() < high
            assert fold.spans[name].last_label_time == data.open_time[times.max() + horizon]
        for name in ("validation", "test"):  # nothing is left out of these
            low, high = expected[name]
            assert len(fold.data.rows[name]) == 3 * (high - low)
        assert len(fold.data.rows["train"]) == 300
        assert fold.counts["purged_train"] == fold.counts["purged_validation"] == 3 * horizon
        assert fold.counts["embargoed_validation"] == fold.counts["embargoed_test"] == 3 * embargo
        assert fold.counts["after_test"] == 3 * (stop - end)


def test_every_bar_of_the_grid_is_counted_once(data: TrainingSet) -> None:
    for fold in walk_forward(data, 4, min_train_share=0.4):
        counts = dict(fold.counts)
        assert counts.pop("grid") == sum(counts.values()) == 600 * 3
        assert all(counts[name] == len(fold.data.rows[name]) == fold.spans[name].rows for name in SPLITS)


def test_labels_of_two_splits_never_overlap(data: TrainingSet) -> None:
    horizon = data.manifest.config.horizon
    folds = walk_forward(data, 3)
    for fold in folds:
        for a, b in combinations(SPLITS, 2):
            assert not _labels(fold.data.rows[a], horizon) & _labels(fold.data.rows[b], horizon)
        learned = np.concatenate([fold.data.rows["train"], fold.data.rows["validation"]])
        assert learned[:, 0].max() + horizon < fold.data.rows["test"][:, 0].min()
    for one, next_one in pairwise(folds):
        tests = [_labels(fold.data.rows["test"], horizon) for fold in (one, next_one)]
        assert not tests[0] & tests[1]
        assert max(tests[0]) < min(tests[1])


def test_another_future_changes_nothing_that_a_fold_learned_from(market, data, tmp_path: Path) -> None:
    test = 410  # the bar where what the second fold learns from ends
    other = market.changed_after(test - 1)
    changed = build_training_set(other.block, other.close, "5m", data.manifest.config, tmp_path / "other")
    before, after = walk_forward(data, 3), walk_forward(changed, 3)
    for fold, same in zip(before[:2], after[:2], strict=True):
        assert fold.data.manifest.normalisation == same.data.manifest.normalisation
        for name in ("train", "validation"):
            rows = fold.data.rows[name]
            np.testing.assert_array_equal(rows, same.data.rows[name])
            np.testing.assert_array_equal(fold.data.windows(rows), same.data.windows(rows))
            for found, expected in zip(same.data.outcomes(rows), fold.data.outcomes(rows), strict=True):
                np.testing.assert_array_equal(found, expected)
    assert before[2].data.manifest.normalisation != after[2].data.manifest.normalisation


def test_normalisation_is_that_of_the_bars_in_training_windows(data: TrainingSet) -> None:
    ids = set()
    for fold in walk_forward(data, 3):
        last = 37 + int((280 + 93 * fold.index) * 0.70 / 0.85) - 3
        bars = data.features[:, 30:last].reshape(-1, 5).astype(np.float64)
        found = fold.data.manifest.normalisation
        np.testing.assert_allclose(found.mean, bars.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(found.std, bars.std(axis=0), rtol=1e-9)
        ids.add(fold.data.manifest.training_set_id)
    assert len(ids | {data.manifest.training_set_id}) == 4


@pytest.mark.parametrize(("folds", "share"), [(0, 0.5), (2, 0.0), (2, 1.0)])
def test_folds_that_cannot_be_cut_are_refused(data: TrainingSet, folds: int, share: float) -> None:
    with pytest.raises(TrainingSetError, match="cannot be cut"):
        walk_forward(data, folds, min_train_share=share)


def test_folds_too_short_for_their_embargo_are_refused(data: TrainingSet) -> None:
    with pytest.raises(TrainingSetError, match="too few"):
        walk_forward(data, 80)
