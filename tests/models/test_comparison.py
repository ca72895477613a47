"""On which rows two models are compared, and what of these rows they see."""

from __future__ import annotations

import dataclasses

from tests.models.conftest import BLIND, SKILLED, contestant
from tests.training.conftest import INTERVAL_MS
from training.lifecycle.comparison import compare


def test_only_rows_that_neither_has_seen_are_judged(world) -> None:
    champion, challenger = (
        world.publish("v1", BLIND, seen=1500),
        world.publish("v2", SKILLED, seen=900, horizon=5),
    )
    pair = contestant(champion), contestant(challenger)
    found = compare(*pair, world.bars(), max_rows=10**9, draws=100)
    assert found.first_open_time == (1500 + 5 + 1) * INTERVAL_MS, (
        "the later of the two, and the longer horizon"
    )
    assert found.last_open_time == (2400 - 1 - 5) * INTERVAL_MS, "every label has come"
    assert found.rows == 3 * found.bars == 3 * (2400 - 5 - 1506)
    block = world.market.block
    changed = block.values.copy()
    changed[:, : 1506 - 8] += 1.0
    other = dataclasses.replace(world.market, block=dataclasses.replace(block, values=changed))
    same = compare(*pair, dataclasses.replace(world, market=other).bars(), max_rows=10**9, draws=100)
    assert same.loss_champion == found.loss_champion, "nothing before the windows of these rows is looked at"
    assert same.loss_challenger == found.loss_challenger


def test_the_future_of_a_row_changes_no_forecast(world) -> None:
    """Loss changes only where the label reaches: the sum over earlier rows stays, to the bit."""
    pair = contestant(world.publish("v1", BLIND)), contestant(world.publish("v2", SKILLED))
    cut = 2000
    later = dataclasses.replace(world, market=world.market.changed_after(cut))
    rows = {"max_rows": 10**9, "draws": 10}
    before = compare(*pair, world.bars(stop=cut + 1), **rows)
    after = compare(*pair, later.bars(stop=cut + 1), **rows)
    assert before == after


def test_rows_are_thinned_out_by_whole_bars(world) -> None:
    pair = contestant(world.publish("v1", BLIND)), contestant(world.publish("v2", SKILLED))
    found = compare(*pair, world.bars(), max_rows=1000, draws=100)
    assert found.rows == 3 * found.bars <= 1000
    assert found.stride == 6
    assert found.block_bars == 4, "eight horizons of three bars, every sixth of which was taken"
