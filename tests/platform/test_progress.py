"""A step that is long at one thing tells so by itself, in the log and in plain lines."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from assets import progress as shown


def test_what_takes_long_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shown, "_SILENT_SECONDS", 0.2)
    monkeypatch.setattr(shown, "_LOG_SECONDS", 0.2)
    monkeypatch.setattr(shown, "_PLAIN_SECONDS", 0.2)
    monkeypatch.setattr(shown, "_PULSE_SECONDS", 0.05)
    log = tmp_path / "out"
    with log.open("w") as out, caplog.at_level(logging.INFO, "step"):
        monkeypatch.setattr(shown, "_terminal", out)
        with shown.StepProgress(SimpleNamespace(log=logging.getLogger("step")), "ONNX", "files") as progress:
            progress.say("converting")
            deadline = time.monotonic() + 20
            while log.read_text().count("\n") < 3 and time.monotonic() < deadline:
                time.sleep(0.05)
            progress.update(1, 2, "comparing")
            while "comparing; at it" not in log.read_text() and time.monotonic() < deadline:
                time.sleep(0.05)
        told = log.read_text().splitlines()
        time.sleep(0.3)
    assert told[:2] == ["ONNX: converting", "ONNX: converting; at it for 0 s"]
    assert any(line.startswith("ONNX: 1 of 2 files") and "comparing; at it for" in line for line in told)
    assert "ONNX: converting; at it for 0 s" in [record.message for record in caplog.records]
    assert log.read_text().splitlines() == told, "and nothing once it has ended"


def test_few_parts_are_told_without_a_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: clock[0])
    log = tmp_path / "out"
    with log.open("w") as out:
        monkeypatch.setattr(shown, "_terminal", out)
        context = SimpleNamespace(log=logging.getLogger("step"))
        with shown.StepProgress(context, "controls", "controls") as progress:
            progress.update(0, 3, "random walk: getting ready")
            for done in (0.01, 0.5, 1, 2.0):
                clock[0] += 60
                progress.update(done, 3, "at work")
    assert log.read_text().splitlines() == [
        "controls: 0 of 3, random walk: getting ready",
        "controls: 0 of 3, at work",
        "controls: 0 of 3, at work",
        "controls: 1 of 3, about 6 min left, at work",
        "controls: 2 of 3, about 2 min left, at work",
    ]
