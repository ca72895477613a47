"""`klinecast models` as a person uses it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from assets.clock import record_clock
from assets.errors import AssetError, GivenValueError
from assets.settings import current_settings
from orchestration.cli.main import app
from tests.models.conftest import World
from training.lifecycle.registry import read_decisions, use_model

OLD, NEW = "20250101T000000Z-aaaaaaaa", "20250108T000000Z-bbbbbbbb"


@pytest.fixture
def models(world: World, monkeypatch: pytest.MonkeyPatch):
    """Run a command on a home with two models, of which the older one predicts."""
    monkeypatch.setenv("KLINECAST_HOME", str(world.home))
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(world.home)
    current_settings.cache_clear()
    scores = {"model": {"auc_sign": 0.5312, "log_loss": 1.0625}}
    for version, signal in ((OLD, 0.0), (NEW, 3.0)):
        world.publish(version, signal, metrics=scores, created_at=1_735_689_600_000)
    use_model(world.home, OLD, at=1_735_700_000_000, by="me")
    record_clock(world.home, 1_736_000_000_000, speed=0)
    yield lambda *arguments: CliRunner().invoke(app, ["models", *arguments])
    current_settings.cache_clear()


def test_list_marks_the_one_that_predicts(models) -> None:
    answer = models("list")
    assert answer.exit_code == 0
    rows = {
        line.split()[-1] if "*" not in line else "*": line
        for line in answer.stdout.splitlines()
        if "Z-" in line
    }
    assert OLD in rows["*"]
    assert "2025-01-01 00:00:00 UTC" in rows["*"]
    assert "0.5312" in rows["*"]
    assert "chosen by hand" in rows["*"]
    assert answer.stdout.count(NEW) == 1


def test_show_tells_decisions_and_damage(models, world) -> None:
    answer = models("show", "20250101")
    assert answer.exit_code == 0
    assert f"me chose {OLD}" in answer.stdout
    assert "8 bars of 5m, 5 features" in answer.stdout
    (world.home / "models" / OLD / "model.onnx").write_bytes(b"")
    damaged = models("show", OLD)
    assert damaged.exit_code == 1
    assert "damaged: model.onnx is not the published file" in damaged.stdout


def test_card_prints_markdown(models) -> None:
    answer = models("card", NEW)
    assert answer.stdout.startswith(f"# Model {NEW}\n")


def test_use_changes_nothing_until_somebody_says_yes(models, world) -> None:
    unasked = models("use", NEW)
    assert isinstance(unasked.exception, AssetError)
    assert "--yes" in str(unasked.exception)
    assert world.current() == OLD
    assert len(read_decisions(world.home)) == 1
    answer = models("use", "20250108", "--yes")
    assert answer.exit_code == 0
    assert f"{OLD} predicts now; it stays in the registry" in answer.stdout
    assert world.current() == NEW
    last = read_decisions(world.home)[-1]
    assert (last.challenger, last.champion, last.at) == (NEW, OLD, 1_736_000_000_000)
    assert "on the command line" in last.by
    again = models("use", NEW, "--yes")
    assert "nothing was changed" in again.stdout
    assert len(read_decisions(world.home)) == 2
    assert isinstance(models("use", "1999", "--yes").exception, GivenValueError)
