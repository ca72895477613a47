"""What a person sees of a long ingest: a bar with rows per second and time left, or plain lines without a terminal."""

from __future__ import annotations

import logging
import os
import pty
import re
import select
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assets import progress as shown


@pytest.fixture
def context() -> Any:
    return SimpleNamespace(log=logging.getLogger("step"))


def _all_that_comes(terminal: int, until: str) -> str:
    """Read what is written, which a terminal hands over in pieces, up to the text that is waited for."""
    seen = b""
    for _ in range(200):
        if select.select([terminal], [], [], 0.05)[0]:
            seen += os.read(terminal, 65_536)
        if until.encode() in seen:
            break
    return seen.decode(errors="replace")


def test_a_terminal_shows_rows_per_second_and_time_left(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = pty.openpty()
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    clock = [100.0]
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(shown, "_terminal", terminal)
        monkeypatch.setattr(shown.time, "monotonic", lambda: clock[0])
        with shown.StepProgress(context, "klines", "bars") as progress:
            bar = progress._bar
            assert bar is not None
            for second in range(1, 6):
                clock[0] += 1.0
                progress.update(second * 25_000, 1_000_000, "BTCUSDT 1m")
            bar.refresh()
            terminal.flush()
            seen = _all_that_comes(master, "125000/1000000")
    os.close(master)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert "125000/1000000 bars 25,000/s" in text
    assert re.search(r"25,000/s \d:\d\d:\d\d 35 s left BTCUSDT 1m", text), "elapsed and left"


def test_without_a_terminal_there_are_plain_lines(
    context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(shown, "_terminal", out)
        monkeypatch.setattr(shown.time, "monotonic", lambda: clock[0])
        with shown.StepProgress(context, "klines", "bars") as progress:
            progress.update(0, 1_000_000)
            for _ in range(12):
                clock[0] += 1.0
                progress.update((clock[0] - 100) * 25_000, 1_000_000, "BTCUSDT 1m")
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines == [
        "klines: 0 of 1,000,000 bars",
        "klines: 125,000 of 1,000,000 bars, 25,000/s, 35 s left, BTCUSDT 1m",
        "klines: 250,000 of 1,000,000 bars, 25,000/s, 30 s left, BTCUSDT 1m",
        "klines: 300,000 of 1,000,000 bars, 25,000/s, 28 s left, BTCUSDT 1m",
    ]


def test_time_left_is_told_when_it_means_something() -> None:
    pace = shown._Pace(0.0)
    pace.note(1.0, 10)
    assert pace.time_left(1_000_000) == "", "a second suggests a day"
    pace.note(4.0, 100_000)
    assert pace.time_left(1_000_000) == ""
    pace.note(5.0, 150_000)
    assert pace.time_left(1_000_000) == f"{850_000 / 30_000:.0f} s left"
    pace.note(65.0, 750_000)  # it goes slower than at the beginning, and that counts
    assert pace.time_left(1_000_000) == f"{250_000 / 10_000:.0f} s left"
    slow = shown._Pace(0.0)
    slow.note(19.0, 100)
    assert slow.time_left(1_000_000) == "", "a ten-thousandth is done"
    slow.note(21.0, 110)
    assert slow.time_left(1_000_000).endswith(" h left")


def test_few_parts_have_no_speed_and_no_early_guess_of_the_time_left() -> None:
    pace = shown._Pace(0.0)
    pace.note(0.0, 0)
    pace.note(62.5, 0.01)  # getting ready took most of it: at this speed the rest would take hours
    assert (pace.speed(3), pace.time_left(3)) == ("", "")
    pace.note(100.0, 1)
    pace.note(101.0, 1.5)  # ... and of late it goes fast
    assert (pace.speed(3), pace.time_left(3)) == ("", "about 101 s left")
    pace.note(102.0, 3)
    assert pace.time_left(3) == ""


def test_many_slow_units_have_a_speed() -> None:
    pace = shown._Pace(0.0)
    pace.note(60.0, 20)
    assert (pace.speed(400), pace.time_left(400)) == ("3 s each", "19 min left")
    assert pace.speed(None) == "", "nobody knows how many there will be"
