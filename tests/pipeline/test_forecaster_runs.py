"""Runs of several configurations beside each other, and versions that are published once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.clock import record_clock
from assets.errors import NotMadeYetError
from assets.forecaster import forecaster
from assets.forecaster_runs import (
    KEPT_RUNS,
    RECORD_FILE,
    keep_few,
    newest_run,
    note_use,
    run_folder,
    run_lock,
)
from assets.model_bundle import add_to_bundle, judged_forecaster, newest_bundle
from assets.model_state import training_set_folder
from assets.platform import Platform
from assets.settings import current_settings
from kernels.catalogue import model_features
from kernels.compute import compute
from market.store import Panel
from training.config import ForecasterConfig
from training.controls.markets import planted_market
from training.data.dataset import build_training_set
from training.data.training_set import TrainingSet
from training.export.bundle import list_bundles, verify_files
from training.export.conversion import ExportedModel
from training.fitting.fit import identity_of_run
from training.locks import at_once
from training.network.forecaster_files import META_FILE, WEIGHTS_FILE, load_meta

A = ForecasterConfig(
    window=8, horizon=3, width=8, heads=2, lstm_units=8, ff=8, hidden=8, epochs=1, max_windows=300
)
B = A.model_copy(update={"seed": 2})


@dataclass
class Trainer:
    """A home on a clock that goes a minute further at each step."""

    home: Path
    minute: int = 0
    market: Panel = field(default_factory=lambda: planted_market(bars=900, symbols=3, seed=3))

    def __post_init__(self) -> None:
        self.block = compute(self.market, model_features())

    def ask_for(self, config: ForecasterConfig) -> None:
        """Make the training set of one configuration the newest."""
        self.minute += 1
        record_clock(self.home, 1_735_689_600_000 + 60_000 * self.minute, speed=0)
        close = self.market.columns["close"]
        build_training_set(self.block, close, "5m", config, training_set_folder(self.home))

    def train(self, config: ForecasterConfig) -> tuple[Path, str]:
        """Train and judge; returns the folder and what is said of it."""
        self.ask_for(config)
        result = dg.materialize([forecaster], resources={"platform": Platform()})
        (event,) = result.asset_materializations_for_node("forecaster")
        return Path(event.metadata["folder"].value), str(event.metadata["summary"].value)

    def publish(self, content: str = "exported") -> str:
        """Publish the newest forecaster with one more file; returns its version."""
        file = self.home / "model.onnx"
        file.write_text(content)
        _, folder = judged_forecaster(self.home)
        bundle = add_to_bundle(self.home, folder, ExportedModel((file,), {}), now=Platform().now_ms)
        assert newest_bundle(self.home) == bundle
        return bundle.name


@pytest.fixture
def trainer(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KLINECAST_HOME", str(home))
    monkeypatch.setenv("KLINECAST_EXCHANGE_URL", "https://nobody.invalid")  # its best forecast nobody knows
    current_settings.cache_clear()
    yield Trainer(home)
    current_settings.cache_clear()


def test_a_then_b_then_a_again_trains_twice_and_publishes_two_versions(trainer: Trainer) -> None:
    first, _ = trainer.train(A)
    data, _ = judged_forecaster(trainer.home)
    assert load_meta(first).run_id == identity_of_run(data, A), "its folder is named by what it is a run of"
    one = trainer.publish()
    other, _ = trainer.train(B)
    two = trainer.publish()
    assert (first != other, one != two) == (True, True)
    before = (first / WEIGHTS_FILE).stat().st_mtime_ns
    again, said = trainer.train(A)
    assert again == first
    assert said.startswith("already there: made at 2025-01-01 00:01:00 UTC")
    assert (first / WEIGHTS_FILE).stat().st_mtime_ns == before
    assert trainer.publish() == one
    assert list_bundles(trainer.home) == [one, two]
    _a_home_of_an_older_layout_goes_on(trainer, first, one)
    _what_other_code_exports_is_a_version_of_its_own(trainer, one, two)


def _a_home_of_an_older_layout_goes_on(trainer: Trainer, folder: Path, version: str) -> None:
    """There a folder was called by its training set; the forecaster trained anew is the one that is published."""
    data, _ = judged_forecaster(trainer.home)
    (folder / RECORD_FILE).unlink()
    former = folder.rename(folder.with_name(data.manifest.training_set_id))
    assert judged_forecaster(trainer.home)[1] == former
    again, said = trainer.train(A)
    assert again == folder and not said.startswith("already there")
    assert (again / META_FILE).read_bytes() != (former / META_FILE).read_bytes(), "the seconds are others"
    assert trainer.publish() == version
    trainer.ask_for(A.model_copy(update={"seed": 3}))
    with pytest.raises(NotMadeYetError, match="of its settings"):
        judged_forecaster(trainer.home)
    trainer.ask_for(A)


def _what_other_code_exports_is_a_version_of_its_own(trainer: Trainer, one: str, two: str) -> None:
    """A published file never changes, and no export fails because of that."""
    third = trainer.publish("exported by other code")
    assert trainer.publish("exported by other code") == third
    assert list_bundles(trainer.home) == [one, two, third]
    first, last = (verify_files(trainer.home / "models" / version) for version in (one, third))
    assert first.forecaster_sha256 == last.forecaster_sha256


def test_few_runs_are_kept_and_none_that_is_at_work(trainer: Trainer) -> None:
    trainer.ask_for(A)
    data = TrainingSet.load(training_set_folder(trainer.home))
    runs = [f"run-{number:02}" for number in range(KEPT_RUNS + 3)]
    for age, run in enumerate(reversed(runs)):
        note_use(run_folder(trainer.home, run), data)
        _set_used(run_folder(trainer.home, run), 1_000 + age)
        run_lock(trainer.home, run).parent.mkdir(exist_ok=True)
        run_lock(trainer.home, run).touch()
    with at_once(run_lock(trainer.home, runs[-1])):
        kept = keep_few(trainer.home)
    assert {folder.name for folder in run_folder(trainer.home, "x").parent.iterdir()} == {
        *runs[:KEPT_RUNS],
        runs[-1],
    }
    assert {file.name for file in run_lock(trainer.home, "x").parent.iterdir()} == {
        *runs[:KEPT_RUNS],
        runs[-1],
    }
    assert (kept.runs, kept.removed) == (KEPT_RUNS + 1, 2)
    assert newest_run(trainer.home, data) == run_folder(trainer.home, runs[0])


def _set_used(folder: Path, at: int) -> None:
    record: dict[str, Any] = json.loads((folder / RECORD_FILE).read_text())
    (folder / RECORD_FILE).write_text(json.dumps(record | {"used_at": at}))
