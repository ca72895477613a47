"""Ledgers that survive their writers, and the registry that a person looks at and chooses from."""

from __future__ import annotations

import itertools
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from training import ledger
from training.export.bundle import BundleError
from training.ledger import LedgerError
from training.lifecycle.registry import deciding, find_model, list_models, read_decisions, use_model
from training.lifecycle.trials import LEDGER, count_trials, read_trials, record_trial, trial_name, trial_of


def _write_many(path: Path, writer: int) -> None:
    for i in range(100):
        ledger.append(path, {"writer": writer, "i": i, "filling": "x" * 300})


def test_parallel_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ledger.jsonl"
    writers = [
        multiprocessing.get_context("fork").Process(target=_write_many, args=(path, w)) for w in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = [(entry["writer"], entry["i"]) for entry in ledger.read(path)]
    assert sorted(found) == [(w, i) for w in range(4) for i in range(100)]


@pytest.mark.parametrize("kept", range(1, 12))
def test_a_line_that_was_cut_off_harms_no_other(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger.append(path, {"a": 1})
    with path.open("ab") as file:
        file.write(b'{"b": "xyz"}'[:kept])  # as a kill leaves it
    assert ledger.read(path)[0] == {"a": 1}
    ledger.append(path, {"c": 3})
    found = ledger.read(path)
    assert found[0] == {"a": 1}
    assert found[-1] == {"c": 3}
    assert len(found) == 2


def test_a_ledger_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError) as refused:
        ledger.append(tmp_path / "file" / "ledger.jsonl", {})
    assert str(tmp_path / "file") in refused.value.where


def test_every_trial_counts_once_whatever_became_of_it(home: Path) -> None:
    assert count_trials(home) == 0
    assert read_trials(home) == []
    times = itertools.count(1)

    def now() -> int:
        return next(times)

    with trial_of(home, "whole", kind="training", now=now, settings={"width": 8}) as ended:
        ended["validation_loss"] = 1.5
    with (
        pytest.raises(ValueError, match="broken"),
        trial_of(home, "bad", kind="training", now=now, settings={}),
    ):
        raise ValueError("broken\nin two lines")
    with pytest.raises(KeyboardInterrupt), trial_of(home, "stopped", kind="training", now=now, settings={}):
        raise KeyboardInterrupt
    record_trial(home, "killed", kind="search", state="begun", at=now(), settings={})
    with trial_of(home, "stopped", kind="training", now=now, settings={}):
        pass  # begun again, and this time it came to its end
    assert count_trials(home) == 4
    found = {trial.trial: trial for trial in read_trials(home)}
    states = {name: trial.state for name, trial in found.items()}
    assert states == {"whole": "complete", "bad": "failed", "stopped": "complete", "killed": "begun"}
    assert found["whole"].details == {"settings": {"width": 8}, "validation_loss": 1.5}
    assert found["bad"].details["problem"] == "ValueError: broken"
    times_of = {name: (trial.at, trial.ended_at) for name, trial in found.items()}
    assert times_of == {"whole": (1, 2), "bad": (3, 4), "stopped": (5, 9), "killed": (7, None)}
    assert (home / LEDGER).is_file()


@pytest.mark.parametrize(
    "line", [b'{"half": 1}', b'{"trial": "a", "kind": "k", "state": "odd", "at": 1, "details": {}}']
)
def test_a_foreign_entry_among_the_trials_is_named(home: Path, line: bytes) -> None:
    record_trial(home, "a", kind="k", state="begun", at=1)
    with (home / LEDGER).open("ab") as file:
        file.write(line + b"\n")
    for read in (count_trials, read_trials):
        with pytest.raises(LedgerError, match="no trial") as refused:
            read(home)
        assert str(home / LEDGER) in refused.value.where and "take that line out" in refused.value.remedy


def test_a_person_waits_for_a_decision_that_is_taking_effect(world) -> None:
    world.publish("v1", 0.0)
    with ThreadPoolExecutor(1) as others:
        with deciding(world.home):
            chosen = others.submit(use_model, world.home, "v1", at=1, by="me")
            with pytest.raises(TimeoutError):
                chosen.result(timeout=0.2)
            assert read_decisions(world.home) == [] and world.current() is None
        assert chosen.result(timeout=20).champion is None
    assert world.current() == "v1"


def test_a_trial_s_name_depends_on_all_that_it_is_given() -> None:
    assert trial_name("training", {"a": 1, "b": 2}) == trial_name("training", {"b": 2, "a": 1})
    assert (
        len({trial_name("training", {"a": value}, start) for value in (1, 2) for start in (None, "x")}) == 4
    )


def test_a_person_chooses_and_goes_back(world) -> None:
    first, second = world.publish("20250101T000000Z-aa", 0.0), world.publish("20250102T000000Z-bb", 3.0)
    record_trial(world.home, "t", kind="training", state="complete", at=1)
    use_model(world.home, "20250101", at=5, by="me")
    decision = use_model(world.home, "20250102", at=6, by="me")
    assert (decision.champion, decision.trials_in_ledger) == (first.name, 1)
    assert decision.words == f"me chose {second.name} in place of {first.name}"
    assert world.current() == second.name
    use_model(world.home, first.name, at=7, by="me")
    assert [entry.is_champion for entry in list_models(world.home)] == [True, False]
    assert [d.challenger for d in read_decisions(world.home)] == [first.name, second.name, first.name]
    assert [d.at for d in find_model(world.home, first.name).decisions] == [5, 7]


def test_a_choice_that_cannot_be_made_changes_nothing(world) -> None:
    first, second = world.publish("20250101T000000Z-aa", 0.0), world.publish("20250102T000000Z-bb", 3.0)
    use_model(world.home, first.name, at=5, by="me")
    for wrong, words in (
        ("2025", "2 model versions begin with"),
        ("2031", "there is no model version"),
        ("", "no model"),
    ):
        with pytest.raises(BundleError, match=words) as refused:
            use_model(world.home, wrong, at=6, by="me")
        assert first.name in refused.value.remedy
    (second / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="SHA-256"):
        use_model(world.home, second.name, at=6, by="me")
    assert world.current() == first.name
    assert len(read_decisions(world.home)) == 1
    assert find_model(world.home, second.name).problem is not None
    (second / "manifest.json").write_text("{")
    assert [entry.problem is None for entry in list_models(world.home)] == [True, False]


def test_a_foreign_entry_among_the_decisions_is_told(world) -> None:
    world.publish("v1", 0.0)
    ledger.append(world.home / "models" / "decisions.jsonl", {"verdict": "perhaps"})
    with pytest.raises(LedgerError, match="no decision"):
        list_models(world.home)
