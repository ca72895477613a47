"""A model card tells what the manifest and the forecaster's description say, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assets.model_cards import card_text, publish_card
from assets.model_state import judgement_folder
from assets.state_files import write_json
from tests.models.conftest import describe_linear
from tests.training.conftest import INTERVAL, NAMES
from training.config import ForecasterConfig
from training.data.splits import SplitSpan
from training.export.bundle import BundleError, read_manifest, verify_files
from training.judgement import Judgement, JudgementSettings
from training.judgement.results import JUDGEMENT_FILE, FoldScores
from training.lifecycle.model_card import CARD_FILE, render_card
from training.lifecycle.trials import record_trial
from training.network.forecaster_files import InitialForecaster, load_meta

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


def test_an_auc_above_the_best_possible_is_explained_where_it_stands(world) -> None:
    best = {
        "auc": 0.53125,
        "auc_best": 0.52,
        "auc_best_interval": [0.5, 0.54],
        "information": {"share": 0.97},
    }
    metrics = SCORES | {"against_best": best | {"auc_above_best_interval": [-0.01, 0.02]}}
    told = section(
        render_card(read_manifest(world.publish("v1", 0.0, metrics=metrics))),
        "Scores on bars it has not seen",
    )
    assert "AUC of the sign 0.5312 [0.5100, 0.5525]; best possible 0.520 [0.500, 0.540], 97%" in told
    assert "the AUC lies 0.011 above it [-0.010, +0.020] by the luck of this sample" in told


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


def test_bars_of_a_simulated_market_are_not_taken_for_real_ones(world) -> None:
    """Symbols of the built-in exchange are called as those of a real one are."""
    world.publish("v1", 0.0, metrics=SCORES)
    assert "Bars of" not in section(card_text(world.home, "v1"), "Data"), "nobody knows"
    for source, real in (("the simulated market with seed 7", False), ("https://api.example", True)):
        write_json(world.home / "source.json", {"source": source})
        told = section(card_text(world.home, "v1"), "Data")
        assert f"Bars of {source}" in told
        assert ("nothing here tells of a real market" not in told) is real


def test_the_judgement_in_a_card_is_that_of_the_same_recipe(world) -> None:
    """Another configuration may have been judged on the same training set since."""
    bundle = world.publish("v1", 0.0, metrics=SCORES)
    world.keep_forecaster(bundle, NAMES)
    meta = load_meta(bundle)
    for age, (seed, words) in enumerate(((meta.config.seed, "its own"), (meta.config.seed + 1, "another's"))):
        config = meta.config.model_copy(update={"seed": seed, "epochs": 17})
        folder = judgement_folder(world.home, words)
        folder.mkdir(parents=True)
        (folder / JUDGEMENT_FILE).write_text(_judged(meta.training_set_id, config).model_dump_json())
        os.utime(folder, (1_000 + age, 1_000 + age))
    told = section(card_text(world.home, "v1"), "Judgement")
    assert "17 epochs at most" in told
    assert f"Judged on {meta.config.seed} unseen windows" in told


def _judged(training_set_id: str, config: ForecasterConfig) -> Judgement:
    """A judgement of nothing, whose number of rows is the seed."""
    span = SplitSpan(rows=1, first_feature_time=0, first_open_time=0, last_open_time=0, last_label_time=0)
    fold = FoldScores(
        index=0, training_set_id="", spans={"train": span}, counts={}, class_share={}, scores={}, seconds={}
    )
    return Judgement(
        judgement_id="", training_set_id=training_set_id, interval=INTERVAL, symbol_names=("A",), config=config,
        settings=JudgementSettings(), rows=config.seed, bars=1, blocks=1, first_time=0, last_time=0,
        scores={"transformer_lstm": {}}, symbols={}, folds=(fold,), differences=(), reliability={}, curves={},
    )  # fmt: skip


def test_no_version_no_card(world) -> None:
    with pytest.raises(BundleError, match="there is no model version"):
        card_text(world.home, "v9")
