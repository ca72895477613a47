"""What happens while two models are compared: decisions of others, and the clock."""

from __future__ import annotations

from typing import Any

import pytest

from tests.models.conftest import BLIND, LESS_SKILLED, SKILLED, decide
from training.lifecycle import promotion
from training.lifecycle.comparison import compare
from training.lifecycle.promotion import PromotionError
from training.lifecycle.registry import read_decisions, use_model


def test_a_decision_has_the_time_at_which_it_was_taken(world, monkeypatch) -> None:
    """Not that at which its comparison began, which may be minutes earlier."""
    decide(world, world.publish("v1", BLIND))
    clock = [10]

    def slow(*given: Any, **changes: Any) -> Any:
        clock[0] = 99
        return compare(*given, **changes)

    monkeypatch.setattr(promotion, "compare", slow)
    assert decide(world, world.publish("v2", SKILLED), now=lambda: clock[0]).at == 99
    assert read_decisions(world.home)[-1].at == 99


def test_what_happens_during_a_comparison_is_not_overwritten(world, monkeypatch) -> None:
    decide(world, world.publish("v1", BLIND))
    decide(world, world.publish("v2", LESS_SKILLED))
    challenger = world.publish("v3", SKILLED)

    def meanwhile(*given: Any, **changes: Any) -> Any:
        monkeypatch.setattr(promotion, "compare", compare)
        found = compare(*given, **changes)
        use_model(world.home, "v1", at=8, by="a person")
        return found

    monkeypatch.setattr(promotion, "compare", meanwhile)
    decision = decide(world, challenger)
    told = [(d.challenger, d.champion, d.reason) for d in read_decisions(world.home)]
    assert decision.champion == "v1", "it was decided again, about who is champion now"
    assert told[-2:] == [("v1", "v2", "chosen_by_hand"), ("v3", "v1", decision.reason)]


def test_of_two_challengers_at_once_the_weaker_does_not_win_by_being_slower(world, monkeypatch) -> None:
    decide(world, world.publish("v1", BLIND))
    strong, weak = world.publish("v3", SKILLED), world.publish("v2", 1.0)

    def meanwhile(*given: Any, **changes: Any) -> Any:
        monkeypatch.setattr(promotion, "compare", compare)
        found = compare(*given, **changes)
        assert decide(world, strong).verdict == "promoted"
        return found

    monkeypatch.setattr(promotion, "compare", meanwhile)
    decision = decide(world, weak)
    assert (decision.verdict, decision.champion, world.current()) == ("kept", "v3", "v3")


def test_comparisons_that_are_always_overtaken_end(world, monkeypatch) -> None:
    decide(world, world.publish("v1", BLIND))
    challenger = world.publish("v2", SKILLED)

    def meanwhile(*given: Any, **changes: Any) -> Any:
        use_model(world.home, "v1", at=8, by="a person")
        return compare(*given, **changes)

    monkeypatch.setattr(promotion, "compare", meanwhile)
    with pytest.raises(PromotionError, match="overtaken"):
        decide(world, challenger)
    assert world.current() == "v1"
