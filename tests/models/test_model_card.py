"""A model card tells what the manifest and the forecaster's description say, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.model_cards import card_text, publish_card
from tests.models.conftest import describe_linear
from tests.training.conftest import INTERVAL, NAMES
from training.export.bundle import BundleError, read_manifest, verify_files
from training.lifecycle.model_card import CARD_FILE, render_card
from training.lifecycle.trials import record_trial
from training.network.forecaster_files import InitialForecaster

SCORES = {
    "split": "test",
    "rows": 1234,
    "model": {"auc_sign": 0.53125, "auc_sign_interval": [0.51, 0.5525], "log_loss": 1.0625, "coverage": 0.8},
    "base_rate": {"auc_sign": 0.5, "auc_sign_interval": [0.5, 0.5], "log_loss": 1.09375, "coverage": 0.79},
    "against_best": None,
}


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_figures_are_those_of_the_manifest(world) -> None:
    manifest = read_manifest(world.publish("v1", 0.0, metrics=SCORES))
    card = render_card(
        manifest,
        trials=None,
        left_out={"no_target": 17},
        findings={"Controls": ["All is well."], "Judgement": []},
    )
    assert "1,234 rows of the test split" in card
    assert "| model | 0.5312 [0.5100, 0.5525] | 1.0625 | 0.8000 |" in section(
        card, "Scores on bars it has not seen"
    )
    assert "| base_rate | 0.5000 [0.5000, 0.5000] | 1.0938 | 0.7900 |" in card
    assert "| no_target | 17 |" in section(card, "Data")
    assert section(card, "Controls").strip() == "- All is well."
    assert "## Judgement" not in card
    assert "## Training" not in card, "nobody knows how it was trained"
    assert "No skill" not in card
    for name in NAMES:
        assert f"`{name}`" in section(card, "Features")
    entry = manifest.files["model.onnx"]
    assert f"| model.onnx | {entry.bytes:,} |" in section(card, "Files")


def test_a_model_without_skill_says_so(world) -> None:
    low = SCORES | {"model": SCORES["model"] | {"auc_sign_interval": [0.49, 0.57]}}
    card = render_card(read_manifest(world.publish("v1", 0.0, metrics=low)))
    assert "No skill in the sign of the return is shown" in section(card, "Limits")
    short = SCORES | {"model": SCORES["model"] | {"auc_sign_interval": None}}
    told = section(render_card(read_manifest(world.publish("v3", 0.0, metrics=short))), "Limits")
    assert "span too short a time for an interval" in told
    assert "without figures" in render_card(read_manifest(world.publish("v2", 0.0)))


def test_how_it_was_trained_and_how_many_were_tried_is_told(world) -> None:
    manifest = read_manifest(world.publish("v1", 0.0))
    meta = describe_linear(600, 8, 3, NAMES, INTERVAL, 0.5)
    cold = section(render_card(manifest, meta, trials=41), "Training")
    assert "this one included: 41" in cold
    assert "cold, from random weights" in cold
    start = InitialForecaster(weights_sha256="abc", run_id="r7", training_set_id="s9")
    warm = section(render_card(manifest, meta.model_copy(update={"initial": start})), "Training")
    assert "warm, from weights_sha256 abc, run_id r7, training_set_id s9" in warm
    assert "tried" not in warm, "nobody counted"


def test_it_is_published_once_and_listed(world) -> None:
    bundle = world.publish("v1", 0.0, metrics=SCORES)
    before = card_text(world.home, "v1")
    assert not (bundle / CARD_FILE).exists(), "a card that is only looked at is not published"
    record_trial(world.home, "t1", kind="training", state="complete", at=1)
    world.keep_forecaster(bundle, NAMES)
    manifest = publish_card(world.home, bundle)
    assert CARD_FILE in verify_files(bundle).files == manifest.files
    published = (bundle / CARD_FILE).read_text()
    assert "this one included: 1" in published
    assert published != before
    record_trial(world.home, "t2", kind="training", state="complete", at=1)
    assert publish_card(world.home, bundle) == manifest
    assert card_text(world.home, "v1") == published, "it never changes"
    (bundle / CARD_FILE).write_text("forged")
    assert "forged" not in card_text(world.home, "v1")
    assert not list(Path(world.home).glob(".card-*"))


def test_no_version_no_card(world) -> None:
    with pytest.raises(BundleError, match="there is no model version"):
        card_text(world.home, "v9")
