"""The asset `judgement` on a training set: its files, its metadata, and that its work is cleared away."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from assets.forecaster import _importance as importance_table
from assets.judgement import judgement
from assets.model_state import training_set_folder
from assets.platform import Platform
from assets.skill import in_words as in_words_of_skill
from training.config import ForecasterConfig
from training.controls.markets import planted_market
from training.data.dataset import build_training_set
from training.judgement import Judgement, in_words

SMALL = {"folds": 1, "max_windows": 300, "validation_windows": 100, "draws": 50}


@pytest.fixture
def trained_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from kernels.catalogue import model_features
    from kernels.compute import compute

    monkeypatch.setenv("KLINECAST_HOME", str(home))
    market = planted_market(bars=900, symbols=3, seed=3)
    config = ForecasterConfig(window=8, width=8, heads=2, lstm_units=8, ff=8, hidden=8, horizon=3)
    block = compute(market, model_features())
    build_training_set(block, market.columns["close"], "5m", config, training_set_folder(home))
    return home


def _run(**config: object) -> dg.ExecuteInProcessResult:
    run_config = {"ops": {"judgement": {"config": SMALL | config}}}
    return dg.materialize(
        [judgement], resources={"platform": Platform()}, run_config=run_config, raise_on_error=False
    )


def test_it_is_told_in_words_figures_and_a_page(trained_home: Path) -> None:
    baselines = ["always_flat", "base_rate", "logistic", "har"]
    result = _run(baselines=baselines)
    assert result.success
    (event,) = result.asset_materializations_for_node("judgement")
    folder = Path(event.metadata["folder"].value)
    assert folder.parent == trained_home / "training" / "judgements"
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}
    found = Judgement.load(folder)
    assert found.judgement_id == folder.name
    assert set(found.scores) == {"transformer_lstm", *baselines}
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert Path(event.metadata["report"].value) == folder / "report.html"
    for line in in_words(found):
        assert line in event.metadata["words"].value
    assert "| gradient boosting |" not in event.metadata["verdicts"].value
    assert "| logistic regression |" in event.metadata["verdicts"].value


def test_a_forecaster_judged_on_a_short_span_is_told_without_intervals() -> None:
    model = {"auc_sign": 0.61, "auc_sign_interval": None}
    assert "0.610 (too few blocks of time for an interval) on 90" in in_words_of_skill(
        {"model": model, "rows": 90}
    )
    one = {
        "group": "g",
        "features": ["a"],
        "log_loss": 0.1,
        "log_loss_interval": None,
        "auc_sign": 0.0,
        "pinball": 0.0,
    }
    told = [one, one | {"log_loss_interval": [0.05, 0.15]}]
    shown = importance_table({"importance": told})["95 % interval"].to_list()
    assert shown == ["too few blocks of time", "+0.0500 to +0.1500"]


def test_an_unknown_baseline_is_explained(trained_home: Path) -> None:
    result = _run(baselines=["oracle"])
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "there is no baseline oracle" in failure.step_failure_data.error.to_string() + str(
        failure.step_failure_data.user_failure_data
    )
