"""A search: what it may look at, that it goes on where it was stopped, and that every trial is in the ledger."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from assets.forecaster_config import ForecasterForm, forecaster_config
from assets.search import in_words
from assets.training_set import published_features
from kernels.catalogue import joined_features, model_features
from kernels.compute import FeatureBlock
from kernels.feature_store import publish
from market.intervals import INTERVAL_MS
from tests.training.conftest import INTERVAL, PlantedMarket, plant
from training.config import ForecasterConfig
from training.data.dataset import build_training_set
from training.data.feature_choice import choose_features, scales, without_groups
from training.data.training_set import TrainingSet
from training.errors import TrainingSetError
from training.lifecycle.search import BEST_SETTINGS, SearchError, SearchResult, run_config, search
from training.lifecycle.search_space import WITHOUT, SearchSpace, draw
from training.lifecycle.study import SEARCHES, SearchSettings, Study
from training.lifecycle.trials import Trial, count_trials, read_trials
from training.locks import at_once
from training.progress import Progress

TINY = ForecasterConfig(
    window=8, horizon=3, width=4, heads=2, blocks=1, lstm_units=4, ff=4, hidden=4, epochs=5, batch_size=64,
    max_windows=400, validation_windows=200,
)  # fmt: skip
SPACE = SearchSpace({"width": (4, 5), "learning_rate": (2e-3, 60.0)})  # 5 is no multiple of 2 heads
SETTINGS = SearchSettings(
    trials=3, epochs=2, max_windows=300, seed=21
)  # the second trial fails, the third does not


@pytest.fixture(scope="module")
def market() -> PlantedMarket:
    return plant(400, 2, strength=0.5)


def build(market: PlantedMarket, folder: Path) -> TrainingSet:
    return build_training_set(market.block, market.close, INTERVAL, TINY, folder)


@pytest.fixture(scope="module")
def data(market: PlantedMarket, tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return build(market, tmp_path_factory.mktemp("data") / "set")


def run(home: Path, data: TrainingSet, settings: SearchSettings = SETTINGS, **options) -> SearchResult:
    times = itertools.count(17)
    return search(home, data, settings, now=lambda: next(times), space=SPACE, threads=1, **options)


def told(trials: tuple[Trial, ...] | list[Trial]) -> list[tuple[str, dict]]:
    return [(trial.state, {k: v for k, v in trial.details.items() if k != "study"}) for trial in trials]


@pytest.fixture(scope="module")
def searched(data: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchResult]:
    home = tmp_path_factory.mktemp("home")
    return home, run(home, data)


def test_every_trial_is_in_the_ledger_with_what_became_of_it(searched) -> None:
    home, found = searched
    assert count_trials(home) == len(found.trials) == 3
    assert read_trials(home) == list(found.trials)
    first = found.trials[0]
    assert first.details["parameters"]["width"] == TINY.width
    assert not any(
        value for name, value in first.details["parameters"].items() if name.startswith("without_")
    )
    times = [time for trial in found.trials for time in (trial.at, trial.ended_at)]
    assert times == sorted(set(times)), "each begin and each end has its own time"
    states = {trial.state for trial in found.trials}
    assert {"complete", "failed"} <= states
    for trial in found.trials:
        assert trial.kind == "search" and trial.ended_at is not None
        if trial.details["parameters"]["width"] == 5:
            assert trial.state == "failed"
            assert "not a multiple" in trial.details["problem"]
        elif trial.state == "complete":
            assert trial.details["validation_loss"] == min(trial.details["losses"].values())
    assert len({str(trial.details["parameters"]) for trial in found.trials}) == 3, "nothing is tried twice"
    assert not list((home / SEARCHES).glob("*/*/forecaster")), "nothing of the trials is left on disk"


def test_what_a_search_is_worth_is_said_plainly(searched) -> None:
    _, found = searched
    first, best = found.trials[0], found.best
    worse = best.model_copy(update={"details": best.details | {"validation_loss": 9.0}})
    better = replace(found, trials=(first, best), best=best)
    assert found.gained == first.details["validation_loss"] - best.details["validation_loss"]
    same = replace(found, trials=(first, worse), best=first)
    assert same.gained == 0 and "none of 2 trials is better than the present settings" in in_words(same)
    assert "--config" not in in_words(same), "nothing is to be trained"
    lost = replace(better, trials=(first.model_copy(update={"state": "failed"}), best))
    assert (
        lost.gained is None and "came to no end (failed)" in in_words(lost) and "--config" in in_words(lost)
    )
    lower = first.model_copy(update={"details": first.details | {"validation_loss": 1.0}})
    won = replace(found, trials=(first, lower), best=lower)
    assert f"{won.gained:.4f} below that of the present settings" in in_words(won) and "--config" in in_words(
        won
    )


def test_trials_that_were_there_already_are_said_to_be(searched, data) -> None:
    home, found = searched
    assert (found.already, "already" in in_words(found)) == (0, False)
    same = run(home, data)
    assert same.already == 3 and same.trials == found.trials
    assert in_words(same).startswith("already there: all 3 trials, of the same data and settings")
    assert in_words(replace(same, already=2)).startswith("2 of 3 trials were already there")


def test_the_best_is_written_as_a_run_config(searched) -> None:
    home, found = searched
    complete = [trial for trial in found.trials if trial.state == "complete"]
    assert found.best.details["validation_loss"] == min(t.details["validation_loss"] for t in complete)
    config = yaml.safe_load((home / BEST_SETTINGS).read_text())["ops"]["training_set"]["config"]
    assert config.pop("intervals") == [INTERVAL]
    assert set(found.choice.left_out_groups) - {"own"} <= set(config.pop("left_out_groups"))
    written = ForecasterConfig(**config)
    assert written == found.choice.config(TINY), "the budget of the search is no setting of the best"


def test_the_run_config_trains_what_the_search_found(home, data) -> None:
    """Of a set with a longer interval and without a group, whichever further group the best trial leaves out."""
    rng, bars = np.random.default_rng(0), 3_000
    for interval, names in (("5m", model_features()), ("1h", joined_features())):
        step = INTERVAL_MS[interval]
        times = np.arange(bars * INTERVAL_MS["5m"] // step, dtype=np.int64) * step
        values = rng.random((len(names), len(times), 2), np.float32)
        publish(FeatureBlock(values, names, times, ("A", "B")), interval, home)
    asked = TINY.model_copy(
        update={"targets": "every", "precision": "float32", "quantiles": (0.2, 0.5), "calibrate": False}
    )
    asked = asked.model_copy(update={"volatility_feature": scales(model_features())[0]})
    block = published_features(home, ("5m", "1h"), ("clock",))
    manifest = data.manifest.model_copy(update={"config": asked, "feature_names": block.names})
    changed = replace(data, manifest=manifest)
    parameters = Study(home, changed, SETTINGS, lambda: 1, SearchSpace(), 1).parameters
    groups = [name for name in parameters if name.startswith(WITHOUT)]
    assert {"without_volatility", "without_trend"} <= set(groups) and "without_clock" not in groups
    for left_out in (None, *groups):
        choice = draw(parameters, lambda name, values, out=left_out: values[name == out])
        written = yaml.safe_load(yaml.safe_dump(run_config(changed, choice)))
        config = dict(written["ops"]["training_set"]["config"])
        intervals, without = tuple(config.pop("intervals")), tuple(config.pop("left_out_groups"))
        assert published_features(home, intervals, without).names == choice.features(block.names)
        assert forecaster_config(ForecasterForm(**config)) == choice.config(asked)


def test_neither_an_interruption_nor_the_test_split_changes_what_is_found(
    searched, market, tmp_path, home
) -> None:
    """Stopped inside the second epoch and begun again, with another future from the first test row on."""
    before = build(market, tmp_path / "before")
    first = int(before.rows["test"][0, 0])
    other = build(market.changed_after(first), tmp_path / "other")
    assert not np.array_equal(before.log_return[first:], other.log_return[first:], equal_nan=True)
    assert np.array_equal(before.rows["validation"], other.rows["validation"])
    short = SETTINGS.model_copy(update={"trials": 2})

    def stop(number: int, progress: Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(home, other, short, progress=stop)
    assert [trial.state for trial in read_trials(home)] == ["interrupted"]
    assert list(read_trials(home)[0].details["losses"]) == ["1"]
    assert told(run(home, other, short).trials) == told(searched[1].trials[:2])
    assert count_trials(home) == 2


def test_two_at_a_time_are_refused(searched, data) -> None:
    home, found = searched
    folder = home / SEARCHES / found.study
    folder.mkdir()
    with at_once(folder), pytest.raises(SearchError, match="running already"):
        run(home, data)
    run(home, data)
    assert not list((home / SEARCHES).iterdir()), "a search that ended leaves nothing but the ledger"


def test_what_a_killed_search_left_goes_when_another_begins(searched, data) -> None:
    home, _ = searched
    left, held = home / SEARCHES / "left", home / SEARCHES / "held"
    for folder in (left, held):
        (folder / "trial").mkdir(parents=True)
    with at_once(held):
        run(home, data)
        assert sorted((home / SEARCHES).iterdir()) == [held], "another process is at work there"
    run(home, data)
    assert not held.exists()


def test_chosen_features_keep_rows_targets_and_statistics(data, tmp_path) -> None:
    names = without_groups(data.feature_names, ("volume", "price"), keep=(data.manifest.volatility_feature,))
    assert names == ("realised_vol_30", "noise_1", "noise_2")
    chosen = choose_features(data, names, tmp_path / "chosen")
    at = [data.feature_names.index(name) for name in names]
    rows = data.rows["test"][:7]
    assert np.array_equal(chosen.windows(rows), data.windows(rows)[:, :, at])
    assert np.array_equal(chosen.rows["train"], data.rows["train"])
    assert np.array_equal(chosen.outcomes(rows).scaled, data.outcomes(rows).scaled)
    assert chosen.manifest.normalisation.mean == tuple(data.manifest.normalisation.mean[i] for i in at)
    assert chosen.manifest.training_set_id != data.manifest.training_set_id
    for wrong in (("noise_1",), ("realised_vol_30", "nothing")):
        with pytest.raises(TrainingSetError, match="cannot be chosen"):
            choose_features(data, wrong, tmp_path / "wrong")
