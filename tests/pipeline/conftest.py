"""Drive klinecast as a user does: commands in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# A market and a model small enough for a test; every stage still does all that it does.
SMALL = {
    "KLINECAST_BUILTIN_SYMBOLS": "4",
    "KLINECAST_INTERVALS": "5m,15m",
    "KLINECAST_HISTORY_BARS": "1500",
}
SMALL_TRAINING = {
    "epochs": 1,
    "max_windows": 1500,
    "width": 8,
    "heads": 2,
    "blocks": 1,
    "lstm_units": 8,
    "ff": 8,
    "window": 16,
}


@dataclass
class Command:
    """Runs `klinecast ...` on one home.

    Attributes
    ----------
    home
        KLINECAST_HOME.
    settings
        Further KLINECAST_ variables.
    """

    home: Path
    settings: dict[str, str] = field(default_factory=lambda: dict(SMALL))

    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("KLINECAST_", "DAGSTER_"))
        }
        path = f"{Path(sys.executable).parent}:{kept.get('PATH', '')}"
        return (
            kept
            | {"PATH": path, "KLINECAST_HOME": str(self.home), "DAGSTER_DISABLE_TELEMETRY": "1"}
            | self.settings
        )

    def __call__(
        self, *arguments: str, code: int | None = 0, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; `code` is the exit code it must have (None: any)."""
        return self.python("-m", "orchestration.cli", *arguments, code=code, **more)

    def python(self, *arguments: str, code: int | None = 0, **more: str) -> subprocess.CompletedProcess[str]:
        """Run Python with this home's settings."""
        answer = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment() | more,
            capture_output=True,
            text=True,
            check=False,
            cwd=REPOSITORY,
            timeout=280,
        )
        if code is not None:
            assert answer.returncode == code, f"exit {answer.returncode}\n{answer.stdout}\n{answer.stderr}"
        return answer


@pytest.fixture
def klinecast(home: Path) -> Command:
    """`klinecast` on an empty home."""
    return Command(home)


@pytest.fixture(scope="session")
def told_plainly() -> Callable[[subprocess.CompletedProcess[str]], str]:
    """Check that a command failed with one explained message and no trace; returns what it said."""

    def check(answer: subprocess.CompletedProcess[str]) -> str:
        said = answer.stdout + answer.stderr
        assert answer.returncode != 0
        assert "Traceback" not in said
        assert 'File "' not in said, said
        assert said.count("\n  where: ") == 1, said
        assert said.count("\n  do: ") == 1, said
        return said

    return check
