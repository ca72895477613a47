"""Two processes that want the same: the second waits, says so, and goes on when the first has ended, even by a kill."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from assets.turns import turn_at

HOLDER = """
import sys, time
from pathlib import Path
from assets.turns import turn_at
with turn_at(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_waits_and_goes_on_when_the_first_was_killed(tmp_path: Path) -> None:
    lock = tmp_path / "turns" / "abc"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        told: list[str] = []
        done = threading.Event()

        def second() -> None:
            with turn_at(lock, told.append):
                done.set()

        waiting = threading.Thread(target=second)
        waiting.start()
        deadline = time.monotonic() + 10
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(told) == 1 and "another run is at work" in told[0]
        assert not done.is_set()
        first.kill()
        waiting.join(10)
        assert done.is_set()
