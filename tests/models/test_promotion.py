"""Champion against challenger: who wins when the skill is known, and at which level."""

from __future__ import annotations

import json

import pytest

from assets.promotion import _beginning
from tests.models.conftest import BLIND, LESS_SKILLED, SKILLED, contestant, decide
from tests.training.conftest import NAMES
from training.lifecycle.comparison import compare
from training.lifecycle.promotion import PromotionError, PromotionSettings, draws_for
from training.lifecycle.registry import champion_version, read_decisions, use_model
from training.lifecycle.trials import record_trial


def test_the_first_model_becomes_champion(world) -> None:
    decision = decide(world, world.publish("v1", BLIND))
    assert (decision.verdict, decision.reason, decision.champion) == ("promoted", "no_champion", None)
    assert world.current() == "v1"
    assert read_decisions(world.home) == [decision]
    assert (decision.at, decision.by) == (7, "a test")
    assert decision.words.endswith("and nothing is known of its checks"), "nobody has said that it passed"


def test_what_became_of_the_checks_is_said_of_the_first_model(world) -> None:
    decision = decide(world, world.publish("v1", BLIND), checks="one of its checks was let pass")
    assert decision.words == "promoted: the first model here, and one of its checks was let pass"


def test_a_first_model_is_held_against_no_champion() -> None:
    assert "there is no champion yet" in _beginning("v1", None)
    assert "against the champion, v1," in _beginning("v2", "v1")
    assert _beginning("v1", "v1") == "v1 is the champion already"


def test_a_better_challenger_wins_and_the_loser_stays(world) -> None:
    decide(world, world.publish("v1", BLIND))
    decision = decide(world, world.publish("v2", SKILLED))
    assert (decision.verdict, decision.reason, decision.champion) == ("promoted", "better", "v1")
    assert world.current() == champion_version(world.home) == "v2"
    assert (world.home / "models" / "v1" / "model.onnx").is_file()
    figures = decision.figures
    assert figures["interval"][0] > 0
    assert figures["p_value"] <= figures["corrected_level"]
    gain = figures["loss_champion"]["total"] - figures["loss_challenger"]["total"]
    assert figures["difference"] == pytest.approx(gain), "with one definition the base rate cancels"
    assert figures["loss_champion"]["volatility"] == figures["loss_challenger"]["volatility"] > 0


@pytest.mark.parametrize(
    ("champion", "challenger"), [(SKILLED, BLIND), (SKILLED, SKILLED + 0.01), (BLIND, -SKILLED)]
)
def test_a_challenger_that_is_no_better_is_kept_out(world, champion: float, challenger: float) -> None:
    decide(world, world.publish("v1", champion))
    decision = decide(world, world.publish("v2", challenger))
    assert (decision.verdict, decision.reason) == ("kept", "not_better")
    assert world.current() == "v1"


def test_every_trial_makes_it_harder(world) -> None:
    """The same pair on the same rows: better than chance for one trial, not for the best of many."""
    decide(world, world.publish("v1", LESS_SKILLED))
    challenger = world.publish("v2", SKILLED)
    found = compare(
        contestant(world.home / "models" / "v1"),
        contestant(challenger),
        world.bars(),
        max_rows=50_000,
        draws=2_000,
    )
    assert 0.0005 < found.p_value < 0.05, "a difference that one trial would settle, and many would not"
    for i in range(300):
        record_trial(world.home, f"t{i}", kind="search", state="pruned", at=1)
    decision = decide(world, challenger)
    assert decision.verdict == "kept"
    assert decision.figures["trials"] == 300
    assert decision.figures["corrected_level"] == pytest.approx(0.05 / 301)
    assert decision.figures["draws"] == draws_for(0.05 / 301) == 120_400
    assert "300 forecasters tried" in decision.words


def test_the_same_pair_without_further_trials_is_promoted(world) -> None:
    for i in range(
        300
    ):  # those before the champion's own decision were its competitors, not the challenger's
        record_trial(world.home, f"t{i}", kind="search", state="complete", at=1)
    decide(world, world.publish("v1", LESS_SKILLED))
    decision = decide(world, world.publish("v2", SKILLED))
    assert (decision.verdict, decision.figures["trials"]) == ("promoted", 1)


def test_too_few_rows_keep_the_champion(world) -> None:
    decide(world, world.publish("v1", BLIND))
    decision = decide(world, world.publish("v2", SKILLED), bars=world.bars(stop=760))
    assert (decision.verdict, decision.reason) == ("kept", "too_few_rows")
    assert "6 blocks of 24, 10 are needed" in decision.words
    none = decide(world, world.publish("v3", SKILLED), bars=world.bars(stop=500))
    assert (none.reason, none.figures["rows"]) == ("too_few_rows", 0)
    decide(world, world.home / "models" / "v3", settings=PromotionSettings(min_blocks=5))
    assert world.current() == "v3"


def test_each_is_judged_on_what_it_understands(world) -> None:
    decide(world, world.publish("v1", BLIND, names=NAMES[:3], window=4))
    decision = decide(world, world.publish("v2", SKILLED, window=16, volatility=False))
    assert (decision.verdict, decision.figures["same_question"]) == ("promoted", True)
    assert decision.figures["loss_champion"]["volatility"] == 0, "one of them does not predict it"
    other = decide(world, world.publish("v3", BLIND, horizon=6, flat_band=0.3))
    assert (other.verdict, other.figures["same_question"]) == ("kept", False)
    assert "each on its own question" in other.words


def test_a_harder_question_alone_does_not_lose(world) -> None:
    """Another flat band changes the loss of knowing nothing; what counts is what a model knows beyond that."""
    decide(world, world.publish("v1", BLIND, flat_band=2.5))
    decision = decide(world, world.publish("v2", SKILLED, flat_band=0.5))
    figures = decision.figures
    assert figures["loss_challenger"]["direction"] > figures["base_champion"]["direction"]
    assert decision.verdict == "promoted"


@pytest.mark.parametrize("harm", ["damaged", "feature", "unrunnable", "pointer"])
def test_a_champion_that_cannot_be_judged_gives_way(world, harm: str) -> None:
    garbage = b"no model" if harm == "unrunnable" else None
    champion = world.publish("v1", SKILLED, model=garbage)
    decide(world, champion)
    if harm == "damaged":
        (champion / "model.onnx").write_bytes(b"")
    if harm == "pointer":
        (world.home / "models" / "current").write_text("{")
    names = ("taker_imbalance", "realised_vol_30", "noise_1") if harm == "feature" else NAMES
    challenger = world.publish("v2", BLIND, names=names)
    decision = decide(world, challenger, bars=world.bars(names=names))
    assert (decision.verdict, decision.reason) == ("promoted", "champion_cannot_be_judged")
    assert world.current() == "v2"


def test_a_challenger_that_cannot_be_judged_is_an_error(world) -> None:
    decide(world, world.publish("v1", BLIND, names=NAMES[:3]))
    with pytest.raises(PromotionError, match="noise_1, noise_2"):
        decide(world, world.publish("v2", SKILLED), bars=world.bars(names=NAMES[:3]))
    assert world.current() == "v1"


def test_another_interval_is_a_decision_already(world) -> None:
    decide(world, world.publish("v1", SKILLED, interval="15m"))
    assert decide(world, world.publish("v2", BLIND)).reason == "other_interval"
    assert world.current() == "v2"


def test_nothing_is_decided_twice_and_a_person_has_the_last_word(world) -> None:
    decide(world, world.publish("v1", BLIND))
    challenger = world.publish("v2", SKILLED)
    first = decide(world, challenger)
    (world.home / "models" / "current").write_text(
        json.dumps({"version": "v1"})
    )  # killed before it took effect
    assert decide(world, challenger, at=99) == first
    assert len(read_decisions(world.home)) == 2
    assert decide(world, challenger).reason == "is_champion"
    use_model(world.home, "v1", at=8, by="me")
    again = decide(world, challenger)
    assert (again.verdict, again.reason) == ("kept", "set_aside_by_hand")
    assert world.current() == "v1"
    assert decide(world, world.publish("v3", SKILLED + 0.1)).verdict == "promoted", "a new one may challenge"


def test_looking_again_at_more_bars_counts_as_a_trial(world) -> None:
    decide(world, world.publish("v1", SKILLED))
    challenger = world.publish("v2", SKILLED + 0.01)
    looks = [
        decide(world, challenger, bars=world.bars(stop=stop)).figures["trials"] for stop in (1800, 2100, 2400)
    ]
    assert looks == [1, 2, 3]


def test_all_looks_at_one_champion_share_one_level(world) -> None:
    decide(world, world.publish("v1", SKILLED))
    levels, tried = [], 0
    for number in range(2, 6):
        for _ in range(number):  # a search before each
            record_trial(world.home, f"t{tried}", kind="search", state="pruned", at=1)
            tried += 1
        found = decide(world, world.publish(f"v{number}", SKILLED + number / 1000)).figures
        levels.append((found["corrected_level"], found["trials"]))
    assert [trials for _, trials in levels] == [2, 5, 9, 14]
    expected = [0.05 / (a + 1) / (b + 1) for a, b in ((0, 2), (2, 5), (5, 9), (9, 14))]
    assert [level for level, _ in levels] == pytest.approx(expected)
    shares = [level * n for (level, _), n in zip(levels, (2, 3, 4, 5), strict=True)]
    assert sum(shares) == pytest.approx(0.05 * (1 - 1 / 15)), "with all that come after them: 0.05"


def test_a_choice_by_hand_binds_only_while_it_stands(world) -> None:
    decide(world, world.publish("v1", BLIND))
    early = world.publish("v2", SKILLED)
    assert decide(world, early, bars=world.bars(stop=700)).reason == "too_few_rows"
    use_model(world.home, "v1", at=8, by="me")
    assert decide(world, early).words.startswith("kept: a person chose v1 ")
    assert decide(world, world.publish("v4", 1.0)).verdict == "promoted"
    assert (decide(world, early).reason, world.current()) == ("better", "v2")
