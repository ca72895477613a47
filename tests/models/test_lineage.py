"""What a model's line has seen is seen by the model."""

from __future__ import annotations

from dataclasses import replace

from assets.forecaster import _start
from tests.models.conftest import HORIZON, WINDOW, describe_linear
from tests.training.conftest import INTERVAL, INTERVAL_MS, NAMES
from training.config import ForecasterConfig
from training.data.dataset import TrainingSet, build_training_set
from training.export.manifest import Manifest, describe
from training.lifecycle.model_card import render_card
from training.lifecycle.registry import use_model
from training.lifecycle.unseen import seen_until, targets_of, unseen_rows
from training.network.forecaster_files import ForecasterMeta, InitialForecaster


def manifest_of(meta: ForecasterMeta) -> Manifest:
    return describe(
        meta, model_version="v", created_at=0, code_version="0", forecaster_sha256="x", metrics={}
    )


def test_promotion_judges_by_no_bar_that_an_ancestor_saw(world) -> None:
    """A champion of newer bars was the start of a training whose own splits end earlier."""
    cold = describe_linear(600, WINDOW, HORIZON, NAMES, INTERVAL, 0.5)
    start = InitialForecaster(
        weights_sha256="a", run_id="b", training_set_id="c", seen_until=900 * INTERVAL_MS
    )
    warm = cold.model_copy(update={"initial": start})
    bars = world.bars()
    for meta, seen in ((cold, 600), (warm, 900)):
        manifest = Manifest.model_validate_json(manifest_of(meta).model_dump_json())
        assert manifest.seen_until == seen_until(manifest) == seen * INTERVAL_MS
        found = unseen_rows(bars, [manifest], [targets_of(bars, manifest)], max_rows=100_000)
        assert found.first_bar == found.rows[0, 0] == seen + HORIZON + 1
    older = manifest_of(warm).model_dump(exclude={"seen_until"})
    assert seen_until(Manifest.model_validate(older)) == 600 * INTERVAL_MS, "it says nothing of its ancestors"


def test_a_warm_start_becomes_a_cold_one_where_the_champion_saw_the_test_split(world, tmp_path) -> None:
    config, market = ForecasterConfig(window=WINDOW, horizon=HORIZON), world.market

    def first(bars: int) -> TrainingSet:
        block = market.block
        part = replace(block, values=block.values[:, :bars], open_time=block.open_time[:bars])
        return build_training_set(part, market.close[:bars], INTERVAL, config, tmp_path / str(bars))

    newer, older = first(900), first(640)
    assert _start(world.home, newer, warm=True) == (
        None,
        "cold: random weights, since there is no champion to begin with",
    )
    bundle = world.publish("v1", 0.0, seen=600)
    use_model(world.home, "v1", at=1, by="me")
    world.keep_forecaster(bundle, NAMES)
    assert _start(world.home, newer, warm=True) == (bundle, "warm: the weights of v1")
    assert _start(world.home, newer, warm=False) == (None, "cold: random weights")
    initial, told = _start(world.home, older, warm=True)
    assert initial is None
    assert (
        told.startswith("cold: random weights, not those of v1, since they") and "test split begins" in told
    )


def test_the_card_says_what_a_warm_start_was_stopped_and_calibrated_by() -> None:
    cold = describe_linear(600, WINDOW, HORIZON, NAMES, INTERVAL, 0.5)
    told = {"weights_sha256": "a", "run_id": "b", "training_set_id": "c", "seen_until": 900 * INTERVAL_MS}
    cards = [
        render_card(
            manifest_of(meta := cold.model_copy(update={"initial": InitialForecaster(**told, **rows)})), meta
        )
        for rows in ({}, {"unseen_validation_rows": 1234})
    ]
    assert "partly seen" in cards[0] and "bars up to 1970-01-04 03:00:00 UTC" in cards[0]
    assert "by the 1,234 validation rows that the weights it began with had not seen" in cards[1]
    assert "stopped and calibrated" not in render_card(manifest_of(cold), cold)
