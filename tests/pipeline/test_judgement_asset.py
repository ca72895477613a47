"""The asset `judgement` on a training set: its files, its metadata, and that its work is cleared away."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from assets.clock import record_clock
from assets.forecaster import _importance as importance_table
from assets.judgement import judgement
from assets.kept_metrics import METRICS_FILE, judged_already, keep_metrics, kept_metrics
from assets.model_state import judgement_workdir, newest_report, training_set_folder
from assets.platform import Platform
from assets.skill import in_words as in_words_of_skill
from assets.state_files import write_json
from assets.wording import utc
from training.config import ForecasterConfig
from training.controls.markets import planted_market
from training.data.dataset import build_training_set
from training.data.training_set import TrainingSet
from training.judgement import About, Judgement, in_words, render_html
from training.judgement.kept import RECORD_FILE, Record, find_kept, made_from

SMALL = {"folds": 1, "max_windows": 300, "validation_windows": 100, "draws": 50}


@pytest.fixture
def trained_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from kernels.catalogue import model_features
    from kernels.compute import compute

    monkeypatch.setenv("KLINECAST_HOME", str(home))
    record_clock(home, 1_735_689_600_000, speed=0)
    write_json(home / "source.json", {"source": "the simulated market with seed 7"})
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
    left = judgement_workdir(trained_home, "of-a-former-set") / "fold-0"
    left.mkdir(parents=True)
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
    _its_report_says_what_it_is_of(trained_home, folder, found)
    _is_taken_as_it_is(folder, baselines)


def _its_report_says_what_it_is_of(home: Path, folder: Path, found: Judgement) -> None:
    """A report is read long after it was made: which version, which bars, when, and whether they are simulated."""
    assert newest_report(home) == folder / "report.html"
    top = (folder / "report.html").read_text().split("<section>")[0]
    for fact in (
        found.training_set_id,
        utc(found.first_time),
        utc(found.last_time),
        "2025-01-01 00:00:00 UTC",
        "the simulated market with seed 7",
        "These bars are simulated",
        "none yet: no forecaster of these settings had been trained",
    ):
        assert fact in top
    about = About(model_version="v<1>", judged_at=0, market="https://api.example", simulated=False)
    real = render_html(found, about).split("<section>")[0]
    assert "simulated" not in real and "v&lt;1&gt;" in real and "https://api.example" in real
    assert found.training_set_id in render_html(found).split("<section>")[0], "also where nobody said more"


def _is_taken_as_it_is(folder: Path, baselines: list[str]) -> None:
    """The same judgement again is that one, while its files and what it was made from stay."""
    written = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    (event,) = _run(baselines=baselines).asset_materializations_for_node("judgement")
    assert str(event.metadata["summary"].value).startswith("already there: judged at 2025-01-01 00:00")
    assert event.metadata["folder"].value == str(folder)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == written
    _its_report_follows_what_it_belongs_to(folder, baselines)
    record = Record.model_validate_json((folder / RECORD_FILE).read_bytes())
    found = Judgement.load(folder)
    asked = found.settings.model_copy(update={"draws": found.settings.draws + 1})
    data = TrainingSet.load(training_set_folder(folder.parents[2]))
    assert made_from(data, found.config, found.settings) == record.made_from
    assert made_from(data, found.config, asked) != record.made_from
    assert find_kept(folder.parent, record.made_from) is not None
    report = folder / "report.html"
    report.write_text(report.read_text().replace("0", "1", 1))
    assert find_kept(folder.parent, record.made_from) is None, "a damaged one is made again"


def _its_report_follows_what_it_belongs_to(folder: Path, baselines: list[str]) -> None:
    """Nothing is judged again because another version, say, has the same recipe."""
    scores = (folder / "judgement.json").read_bytes()
    write_json(folder.parents[2] / "source.json", {"source": "https://api.example"})
    (event,) = _run(baselines=baselines).asset_materializations_for_node("judgement")
    assert str(event.metadata["summary"].value).startswith("already there")
    top = (folder / "report.html").read_text().split("<section>")[0]
    assert "https://api.example" in top and "simulated" not in top
    assert "2025-01-01 00:00:00 UTC" in top, "it was judged then"
    assert (folder / "judgement.json").read_bytes() == scores


def test_figures_are_taken_as_they_are_only_if_they_are_whole(tmp_path: Path) -> None:
    made_of = {"weights_sha256": "a", "training_set_id": "b"}
    figures = {"model": {"auc_sign": 0.5281}, "created_at": 7}
    assert judged_already(tmp_path, **made_of) is None
    keep_metrics(tmp_path, figures, **made_of)
    assert judged_already(tmp_path, **made_of) == kept_metrics(tmp_path) == figures
    assert judged_already(tmp_path, **made_of | {"weights_sha256": "c"}) is None
    file = tmp_path / METRICS_FILE
    file.write_text(file.read_text().replace("0.5281", "0.5282"))
    assert judged_already(tmp_path, **made_of) is None


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
