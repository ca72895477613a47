"""The training set folder: rows, windows, counts, and that the future changes nothing of the past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.config import ForecasterConfig
from training.data.dataset import TrainingSet, build_training_set, evenly
from training.data.feature_choice import choose_features
from training.data.splits import SPLITS
from training.errors import TrainingSetError

INTERVAL = "5m"


def test_windows_and_targets_equal_their_definition(
    market: Any, built: TrainingSet, tiny: ForecasterConfig
) -> None:
    batch = next(built.batches("train", 32, shuffle=True, seed=(1, 2)))
    column = market.block.names.index("realised_vol_30")
    outcomes = batch.outcomes
    for window, (t, s), direction, log_return, realised, ratio in zip(
        batch.windows,
        batch.rows,
        outcomes.direction,
        outcomes.log_return,
        outcomes.realised_volatility,
        outcomes.log_volatility_ratio,
        strict=True,
    ):
        assert np.array_equal(window, market.block.values[:, t - tiny.window + 1 : t + 1, s].T)
        expected = np.log(market.close[t + tiny.horizon, s] / market.close[t, s])
        assert np.isclose(log_return, expected, rtol=1e-5)
        scaled = expected / (market.block.values[column, t, s] * np.sqrt(tiny.horizon))
        steps = np.diff(np.log(market.close[t : t + tiny.horizon + 1, s]))
        assert np.isclose(realised, np.sqrt((steps**2).sum()), rtol=1e-5)
        assert np.isclose(np.exp(ratio), realised * scaled / expected, rtol=1e-4)
        assert direction == (2 if scaled > tiny.flat_band else 0 if scaled < -tiny.flat_band else 1)


def test_every_row_of_the_grid_is_counted_once(market: Any, tiny: ForecasterConfig, tmp_path: Path) -> None:
    market.close[200:210, 1] = np.nan
    market.block.values[0, 300, 2] = np.nan
    market.block.values[2, 400, 0] = 0.0  # no volatility: no scale
    built = build_training_set(market.block, market.close, INTERVAL, tiny, tmp_path / "set")
    counts = dict(built.manifest.counts)
    assert counts.pop("grid") == sum(counts.values()) == market.close.size
    assert all(
        counts[name] > 0 for name in ("left_out_by_max_windows", "purged_train", "embargoed_test", *SPLITS)
    )
    assert counts["train"] == tiny.max_windows
    assert counts["no_target"] == 3 * tiny.horizon + (10 + tiny.horizon) + 1


def test_gaps_take_out_the_windows_and_targets_that_touch_them(
    market: Any, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    config = tiny.model_copy(update={"max_windows": 10**6})
    market.close[200, 1] = np.nan
    market.block.values[0, 300, 2] = np.nan
    built = build_training_set(market.block, market.close, INTERVAL, config, tmp_path / "set")
    rows = {(int(t), int(s)) for split in SPLITS for t, s in built.rows[split]}
    present = {t for t, s in rows if s == 1}
    assert present.isdisjoint(range(200 - tiny.horizon, 201)) and {200 - tiny.horizon - 1, 201} <= present
    present = {t for t, s in rows if s == 2}
    assert present.isdisjoint(range(300, 300 + tiny.window)) and {299, 300 + tiny.window} <= present


def test_splits_do_not_share_a_label_with_later_bars(built: TrainingSet, tiny: ForecasterConfig) -> None:
    for early, late in (("train", "validation"), ("validation", "test")):
        last_label = built.rows[early][:, 0].max() + tiny.horizon
        assert built.rows[late][:, 0].min() - last_label > tiny.embargo
        assert built.manifest.spans[early].last_label_time < built.manifest.spans[late].first_open_time


def test_the_future_changes_no_window_scaling_or_normalisation(
    market: Any, built: TrainingSet, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    """A market that is another one after bar t: rows at or before t are the same, labels up to t - h too."""
    last_train = int(built.rows["train"][-1, 0])
    t = last_train + tiny.horizon  # the last bar that a training label depends on
    other = market.changed_after(t)
    changed = build_training_set(other.block, other.close, INTERVAL, tiny, tmp_path / "other")
    assert not np.array_equal(changed.features, built.features, equal_nan=True)
    assert changed.manifest.normalisation == built.manifest.normalisation
    assert np.array_equal(changed.rows["train"], built.rows["train"])
    assert np.array_equal(changed.windows(built.rows["train"]), built.windows(built.rows["train"]))
    for name in ("direction", "log_return", "realised_volatility"):
        assert np.array_equal(
            getattr(changed, name)[: last_train + 1], getattr(built, name)[: last_train + 1], equal_nan=True
        )
    assert np.array_equal(changed.volatility[: t + 1], built.volatility[: t + 1], equal_nan=True)


def test_normalisation_is_that_of_the_training_span(built: TrainingSet, tiny: ForecasterConfig) -> None:
    first, last = built.rows["train"][0, 0], built.rows["train"][-1, 0]
    bars = built.features[:, first - tiny.window + 1 : last + 1].reshape(-1, len(built.feature_names))
    assert np.allclose(
        built.manifest.normalisation.mean, bars.mean(axis=0, dtype=float), rtol=1e-6, atol=1e-9
    )
    assert np.allclose(built.manifest.normalisation.std, bars.std(axis=0, dtype=float), rtol=1e-6)


def test_batches_are_an_order_of_the_split_that_the_seed_decides(built: TrainingSet) -> None:
    def rows(seed: tuple[int, int]) -> list[tuple[int, ...]]:
        return [
            tuple(row)
            for batch in built.batches("train", 50, shuffle=True, seed=seed)
            for row in batch.rows.tolist()
        ]

    assert rows((1, 1)) == rows((1, 1)) != rows((1, 2))
    assert sorted(rows((1, 1))) == sorted(map(tuple, built.rows["train"].tolist()))


def test_left_out_rows_are_even_over_time() -> None:
    kept = evenly(10_000, 1_000, seed=3)
    assert (np.diff(kept) > 0).all() and np.array_equal(kept // 10, np.arange(1_000))
    assert np.array_equal(evenly(5, 9, seed=0), np.arange(5))


def test_a_constant_feature_is_told_and_does_no_harm(
    market: Any, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    market.block.values[3] = 7
    built = build_training_set(market.block, market.close, INTERVAL, tiny, tmp_path / "set")
    assert built.manifest.constant_features == ("noise_1",) and built.manifest.normalisation.std[3] == 1


def test_building_again_replaces_the_folder_and_gives_the_same_set(
    market: Any, built: TrainingSet, tiny: ForecasterConfig
) -> None:
    again = build_training_set(market.block, market.close, INTERVAL, tiny, built.path)
    assert again.manifest == built.manifest
    assert [path.name for path in built.path.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("harm", ["absent", "cut", "manifest", "swapped", "rows"])
def test_a_damaged_set_is_refused(built: TrainingSet, harm: str) -> None:
    path = built.path
    if harm == "absent":
        path = path / "nowhere"
    elif harm == "cut":
        (path / "close.npy").write_bytes((path / "close.npy").read_bytes()[:500])
    elif harm == "manifest":
        (path / "manifest.json").write_text('{"format_version": 1}')
    elif harm == "swapped":
        np.save(path / "direction.npy", np.zeros((3, 3), np.int8))
    else:
        np.save(path / "test.npy", built.rows["test"] + 10_000)
    with pytest.raises(TrainingSetError) as caught:
        TrainingSet.load(path)
    assert "training_set" in caught.value.remedy


def test_a_set_of_the_former_format_says_that_it_has_to_be_built_again(built: TrainingSet) -> None:
    path = built.path / "manifest.json"
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 1'))
    (built.path / "realised_volatility.npy").unlink()
    with pytest.raises(TrainingSetError, match="format_version 1, this code reads 2") as caught:
        TrainingSet.load(built.path)
    assert "built anew" in caught.value.remedy


def test_values_of_another_type_are_damage(built: TrainingSet) -> None:
    path = built.path / "log_return.npy"
    path.write_bytes(path.read_bytes().replace(b"<f4", b"<i4", 1))
    with pytest.raises(TrainingSetError, match="damaged: int32, expected float32"):
        TrainingSet.load(built.path)


def test_features_are_chosen_from_the_open_set_not_from_one_that_took_its_place(
    market: Any, built: TrainingSet, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    """Another run may build the set again in the meantime: labels of other bars would be learned."""
    later = replace(market.block, values=market.block.values[:, 60:], open_time=market.block.open_time[60:])
    newer = build_training_set(later, market.close[60:], INTERVAL, tiny, built.path)
    chosen = choose_features(built, built.feature_names[:3], tmp_path / "chosen")
    assert chosen.open_time[0] == built.open_time[0] != newer.open_time[0]
    for name in ("open_time", "close", "direction", "log_return", "realised_volatility", "volatility"):
        assert np.array_equal(getattr(chosen, name), getattr(built, name), equal_nan=True), name
    assert all(np.array_equal(chosen.rows[split], built.rows[split]) for split in SPLITS)
    rows = built.rows["test"][:9]
    assert np.array_equal(chosen.windows(rows), built.windows(rows)[:, :, :3])


def test_a_price_that_stands_still_teaches_no_volatility(
    market: Any, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    market.close[200:230, 1] = market.close[200, 1]
    config = tiny.model_copy(update={"max_windows": 10**6})
    built = build_training_set(market.block, market.close, INTERVAL, config, tmp_path / "set")
    rows = np.concatenate([built.rows[split] for split in SPLITS])
    still = rows[np.isnan(built.outcomes(rows).realised_volatility)]
    assert still.tolist() == [[t, 1] for t in range(200, 230 - tiny.horizon)], "the rows stay, as flat ones"
    assert set(built.outcomes(still).direction) == {1}


def test_input_that_does_not_fit_is_refused(
    market: Any, tiny: ForecasterConfig, tmp_path: Path, planted: Callable[..., Any]
) -> None:
    def build(block: Any = market.block, close: Any = market.close, interval: str = INTERVAL) -> None:
        build_training_set(block, close, interval, tiny, tmp_path / "set")

    holed = replace(market.block, open_time=np.delete(np.append(market.block.open_time, 600 * 300_000), 5))
    short = planted(60, 3, strength=0.5)
    for arguments, message in (
        ({"close": market.close[1:]}, "do not fit"),
        ({"interval": "15m"}, "complete grid"),
        ({"block": holed}, "complete grid"),
        ({"close": market.close * np.nan}, "no symbol has a complete window"),
        ({"block": short.block, "close": short.close}, "too few"),
    ):
        with pytest.raises(TrainingSetError, match=message):
            build(**arguments)
        assert not list(tmp_path.iterdir()), "nothing half-made is left"
