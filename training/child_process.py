"""Running a module of this package in a Python process of its own.

Converters and model runtimes are native code that can crash, hang or eat memory; in a process of their own
they take nothing along, and the caller never imports TensorFlow.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import training
from training.errors import TrainingError

_PACKAGE_ROOT = Path(training.__file__).resolve().parent.parent
_STDERR_LINES = 12


class ChildProcessError(TrainingError):
    """A child process failed, was killed, or ran out of time."""


def module_command(module: str) -> tuple[str, ...]:
    """Return the command that runs `module` with this interpreter, whatever the working folder holds (-P)."""
    return (sys.executable, "-P", "-m", module)


def run_child(
    command: Sequence[str], options: Mapping[str, Path | str], *, doing: str, timeout: float
) -> None:
    """Run a command with `--name value` options and wait for its success.

    Parameters
    ----------
    command
        Executable and leading arguments; no shell is involved.
    options
        Paths are passed as absolute ones.
    doing
        What the process is for, as the error tells it, such as "the conversion to ONNX".
    timeout
        Seconds after which it is killed.

    Raises
    ------
    ChildProcessError
        It ended with another code than 0 (the error carries the last lines it wrote to stderr), ran out of
        time, or could not be started.
    """
    arguments = list(command)
    for name, value in options.items():
        arguments += [f"--{name}", str(value.resolve()) if isinstance(value, Path) else value]
    where = " ".join(arguments)
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(),
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ChildProcessError(
            f"{doing} did not end within {timeout:g} s and was stopped",
            where=where,
            remedy="give it a longer time-out, or a less busy machine",
        ) from error
    except OSError as error:
        raise ChildProcessError(
            f"{doing} could not be started: {error}", where=where, remedy="repair the Python environment"
        ) from error
    if done.returncode != 0:
        raise ChildProcessError(
            f"{doing} failed ({_ending(done.returncode)}): {_last_lines(done.stderr)}",
            where=where,
            remedy="run the command by hand to see all of its output",
        )


def _environment() -> dict[str, str]:
    """The caller's environment, on the CPU, with what makes conversions repeatable."""
    search = [str(_PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(search),
        "PYTHONHASHSEED": "0",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _last_lines(stderr: bytes) -> str:
    lines = [line.rstrip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return "\n    ".join(["", *lines[-_STDERR_LINES:]]) if lines else "it wrote nothing to stderr"
