"""Ctrl-C is heeded wherever it comes, and a second one ends the process at once."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets.interrupts import INTERRUPTED, heed, interrupted, noting_interrupts

REPOSITORY = Path(__file__).resolve().parents[2]

# Deaf as a step in native code is: what the handler raises goes nowhere.
DEAF = """
import signal, sys, time
from assets.interrupts import noting_interrupts
signal.signal(signal.SIGINT, lambda *_: None)
with noting_interrupts(end_on_second=True):
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""


COMMAND = """
import typer
from orchestration.cli.main import _interruptible
app = typer.Typer()
@app.command()
def interrupted():
    with _interruptible():
        exec("raise KeyboardInterrupt")
app()
"""


class FrameworkInterrupt(BaseException):
    """As orchestrators raise from their signal handlers."""


@pytest.fixture
def handler() -> Iterator[None]:
    def handle(*_: object) -> None:
        raise FrameworkInterrupt

    former = signal.signal(signal.SIGINT, handle)
    yield
    signal.signal(signal.SIGINT, former)


class _Thing:
    pass


def _interrupt_a_weak_reference() -> None:
    """Send SIGINT so that the handler raises inside a weak reference's callback, whose errors nobody gets."""
    thing = _Thing()
    watched = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert watched() is None


@pytest.mark.usefixtures("handler")
def test_an_interrupt_that_was_swallowed_is_sent_again() -> None:
    with pytest.raises(FrameworkInterrupt), noting_interrupts():
        _interrupt_a_weak_reference()
        time.sleep(20)


def test_an_interrupt_without_effect_is_raised_at_the_next_report() -> None:
    """As where C code clears the errors of what it calls."""
    former = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with noting_interrupts():
            heed()  # none came
            signal.raise_signal(signal.SIGINT)
            deadline = time.monotonic() + 10
            while not interrupted() and time.monotonic() < deadline:
                time.sleep(0.001)
            with pytest.raises(KeyboardInterrupt):
                heed()
        heed()  # what came before does not end what comes after
        with noting_interrupts():
            heed()
    finally:
        signal.signal(signal.SIGINT, former)


def test_a_command_ends_by_its_exit_code_wherever_it_was_interrupted(tmp_path: Path) -> None:
    """CPython ends python -m by SIGINT once a KeyboardInterrupt has passed through exec of a string."""
    (tmp_path / "command.py").write_text(COMMAND)
    found = subprocess.run(
        [sys.executable, "-m", "command"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == INTERRUPTED, found.stderr


@pytest.mark.usefixtures("handler")
def test_what_was_noted_before_is_noted_again_afterwards() -> None:
    """Others may have asked for the same bytes; they get them back."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    former = signal.set_wakeup_fd(writing)
    try:
        with noting_interrupts(), noting_interrupts():
            pass
        with pytest.raises(FrameworkInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert os.read(reading, 8) == bytes([signal.SIGINT])
    finally:
        signal.set_wakeup_fd(former)
        os.close(reading)
        os.close(writing)


def test_a_second_one_ends_a_process_that_does_not_heed_the_first() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and select.select([process.stdout], [], [], 60)[0]
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # the same keypress, by way of another process
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED
    assert "ended at once" in said and "again to go on" in said
