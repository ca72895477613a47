"""From the exchange to a prediction with a model that reads several intervals, every stage as the jobs run it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets.features import features
from assets.forecaster_runs import note_use, run_folder
from assets.klines import klines
from assets.model_state import training_set_folder
from assets.platform import Platform
from assets.settings import current_settings
from assets.training_set import training_set
from assets.universe import universe
from market.exchange.launch import start_exchange
from market.intervals import interval_ms
from market.store import KlineStore
from serving.bundle import load_bundle
from serving.inputs import model_inputs, read_panels
from serving.sweep import SweepReport, sweep
from tests.pipeline.conftest import SMALL, SMALL_TRAINING
from tests.serving.conftest import small_model, write_bundle
from training.data.training_set import TrainingSet
from training.fitting.checkpoint import CHECKPOINT_FILE

START = 1_748_736_000_000  # 2025-06-01 00:00, where bars of all intervals close together
STEP = interval_ms("5m")
ASSETS = [universe, klines, features, training_set]


class Stages:
    """A home and an exchange, and the assets on them."""

    def __init__(self, home: Path, exchange: Any) -> None:
        self.home, self.exchange = home, exchange

    def run(self, *assets: dg.AssetsDefinition, **config: dict[str, Any]) -> dg.ExecuteInProcessResult:
        ops = {name: {"config": values} for name, values in config.items()}
        selection = [asset.key for asset in assets]
        result = dg.materialize(
            ASSETS, selection=selection, resources={"platform": Platform()}, run_config={"ops": ops}
        )
        assert result.success
        return result

    def at(self, now: int) -> None:
        self.exchange.set_clock(now_ms=now)

    def sweep(self) -> SweepReport:
        with KlineStore.open(self.home) as store:
            return sweep(store, self.home, symbols=self.symbols(store), now_ms=Platform().now_ms())

    @staticmethod
    def symbols(store: KlineStore) -> list[str]:
        return store.universe()["symbol"].to_list()


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    home = tmp_path_factory.mktemp("several") / "home"
    with (
        start_exchange(symbols=4, seed=11, now=START + 30_000, speed=0) as exchange,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in [name for name in os.environ if name.startswith("KLINECAST_")]:
            patch.delenv(name)
        more = {"HOME": str(home), "EXCHANGE_URL": exchange.url, "JOINED_INTERVALS": "15m"}
        for name, value in (SMALL | {f"KLINECAST_{name}": value for name, value in more.items()}).items():
            patch.setenv(name, value)
        current_settings.cache_clear()
        home.mkdir()
        made = Stages(home, exchange)
        made.run(*ASSETS, training_set=SMALL_TRAINING)
        yield made
    current_settings.cache_clear()


@pytest.fixture(scope="module")
def data(stages: Stages) -> TrainingSet:
    return TrainingSet.load(training_set_folder(stages.home))


@pytest.fixture(scope="module")
def model(stages: Stages, data: TrainingSet) -> Any:
    names, window = data.feature_names, data.manifest.config.window
    onnx = small_model(features=len(names), window=window)
    write_bundle(
        stages.home,
        model=onnx,
        feature_names=list(names),
        window=window,
        intervals=list(data.manifest.intervals),
    )
    return load_bundle(stages.home)


def test_the_served_window_is_the_one_of_training(stages: Stages, data: TrainingSet, model: Any) -> None:
    """At the last bars of the training set, to the last bit."""
    assert data.manifest.intervals == ("5m", "15m")
    assert {"rsi_14", "rsi_14@15m"} <= set(data.feature_names)
    assert "hour_sin@15m" not in data.feature_names
    with KlineStore.open(stages.home) as store:
        symbols = list(data.manifest.symbols)
        for t in range(len(data.open_time) - 4, len(data.open_time)):
            end = int(data.open_time[t]) + STEP
            inputs = model_inputs(read_panels(store, model, "5m", symbols, end), model)
            rows = np.array([(t, s) for s in range(len(symbols))], np.int32)
            assert inputs.complete.all()
            assert inputs.windows.tobytes() == data.windows(rows).tobytes()
    assert int(data.open_time[-1]) == START - STEP, "the newest bar closed together with one of 15 minutes"


def test_a_sweep_waits_for_the_longer_bar(stages: Stages, model: Any) -> None:
    first = stages.sweep()
    assert (first.frame.height, first.not_ready, first.open_time) == (4, {}, START - STEP)
    quarter = START + 3 * STEP
    stages.at(quarter - 1_000)  # two more bars of 5 minutes, the next one of 15 still open
    stages.run(klines)
    assert (stages.sweep().open_time, stages.sweep().frame.height) == (START + STEP, 4)
    stages.at(quarter + 1_000)
    stages.run(klines, klines={"intervals": ["5m"]})
    late = stages.sweep()
    assert late.open_time == START + 2 * STEP
    assert late.frame.height == 0
    assert {interval: len(symbols) for interval, symbols in late.not_ready.items()} == {"15m": 4}
    stages.run(klines)
    ready = stages.sweep()
    assert (ready.open_time, ready.frame.height, ready.not_ready) == (START + 2 * STEP, 4, {})


def test_another_choice_of_intervals_is_another_set(stages: Stages, data: TrainingSet) -> None:
    """Also while the training on the former one was begun and not ended."""
    _begin_training(stages.home, data)
    stages.run(training_set, training_set=SMALL_TRAINING)
    assert TrainingSet.load(training_set_folder(stages.home)).manifest == data.manifest, "kept, to go on"
    again = stages.run(training_set, training_set=SMALL_TRAINING | {"intervals": ["15m"]})
    alone = TrainingSet.load(training_set_folder(stages.home))
    assert alone.manifest.intervals == ("15m",)
    assert alone.manifest.training_set_id != data.manifest.training_set_id
    told = again.asset_materializations_for_node("training_set")[0].metadata
    assert "15m bars" in str(told["summary"].value)
    _begin_training(stages.home, alone)
    stages.run(training_set, training_set=SMALL_TRAINING | {"intervals": ["5m"]})
    assert TrainingSet.load(training_set_folder(stages.home)).manifest.interval == "5m"


def _begin_training(home: Path, data: TrainingSet) -> None:
    """Leave what a training that was killed leaves."""
    folder = run_folder(home, f"run-{data.manifest.training_set_id}")
    note_use(folder, data)
    (folder / CHECKPOINT_FILE).touch()
