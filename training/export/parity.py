"""Does an exported file answer as the Keras model does? Run on real windows, without TensorFlow.

Differences are measured as

- `direction`: largest absolute difference of a probability;
- `quantiles`: largest ``|q - q_keras| / max(horizon volatility, |q_keras|)``, that is in units of the
  volatility over the horizon, in which the network predicts, or of the quantile itself where that is larger.
  Log returns are of the order 1e-3: an absolute bound would pass anything;
- `volatility`: the same of the volatility forecast.

A float file passes if all are within the tolerance. A quantised file is judged by its agreement, the share
of windows with the same most probable class. How often somebody who trades on the answers would decide
otherwise is reported beside it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from training.child_process import module_command, run_child
from training.config import DOWN, UP
from training.errors import TrainingError
from training.export.inference_graph import OUTPUT_NAMES
from training.export.int8_interface import Int8Interface
from training.export.reference_outputs import (
    Reference,
    checked_windows,
    load_reference,
    reference_path,
    store_reference,
    stored_reference,
)
from training.network.forecaster_files import load_meta

FLOAT_TOLERANCE = 1e-5
MIN_AGREEMENT = 0.99
DECISION_THRESHOLD = 0.4
"""A trade is made on the side that is the more probable one, if its probability is at least this."""
OUTPUTS = OUTPUT_NAMES

Runtime = Literal["onnxruntime", "litert"]
Predict = Callable[[np.ndarray], dict[str, np.ndarray]]


class ParityError(TrainingError):
    """An exported file does not run, or does not answer as the Keras model does."""


class ParityReport(BaseModel):
    """How an exported file compares with the Keras model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: Runtime = Field(description="what ran the file, on one thread of a CPU")
    windows: int = Field(description="number of real windows compared")
    max_abs_difference: dict[str, float] = Field(
        description="direction: of a probability; quantiles, volatility: in units of "
        "max(horizon volatility, |value|)"
    )
    mean_abs_difference: dict[str, float] = Field(description="the same, averaged")
    agreement: float = Field(description="share of windows with the same most probable class")
    tolerance: float | None = Field(description="bound on all differences; null: judged by agreement")
    min_agreement: float | None = Field(description="bound on the agreement; null: judged by differences")
    decision_flips: dict[str, float] | None = Field(
        default=None,
        description="share of windows in which the decision to go up, down or neither is another one; "
        "most_probable: by the most probable class; threshold: by the side whose probability reaches it",
    )
    decision_threshold: float | None = Field(default=None, description="probability from which is traded")
    int8: Int8Interface | None = Field(
        default=None,
        description="how an integer-only file takes and gives numbers; null: as `input` and `outputs` say",
    )

    @property
    def passed(self) -> bool:
        """Whether the file keeps its bound."""
        if self.tolerance is not None and max(self.max_abs_difference.values()) > self.tolerance:
            return False
        return self.min_agreement is None or self.agreement >= self.min_agreement

    def __str__(self) -> str:
        differences = ", ".join(f"{name} {value:.2g}" for name, value in self.max_abs_difference.items())
        bounds = f"tolerance {self.tolerance:g}" if self.tolerance is not None else ""
        bounds += f"agreement at least {self.min_agreement:g}" if self.min_agreement is not None else ""
        return (
            f"largest differences {differences}; "
            f"same class in {self.agreement:.2%} of {self.windows} windows ({bounds})"
        )


def check_parity(
    bundle_file: Path,
    forecaster_dir: Path,
    windows: np.ndarray,
    tolerance: float | None = FLOAT_TOLERANCE,
    *,
    min_agreement: float | None = None,
    int8: Int8Interface | None = None,
    timeout: float = 300.0,
) -> ParityReport:
    """Run an exported file on real windows and compare it with the Keras model.

    TensorFlow is started (in a child process) only if the answers of the Keras model on these windows are not
    stored yet.

    Parameters
    ----------
    bundle_file
        ``*.onnx`` or ``*.tflite``.
    forecaster_dir
        Folder of the trained forecaster that the file was made from.
    windows
        (n, window, F) raw features, finite.
    tolerance, min_agreement
        Bounds of a float and of a quantised file; give the one that applies.
    int8
        How to feed an integer-only file.
    timeout
        Seconds for each child process.

    Raises
    ------
    ParityError
        The file cannot be run. A file that runs but answers otherwise is a report that has not passed.
    WindowsError, ForecasterError
        The windows or the forecaster cannot be used.
    """
    reference = ensure_reference(forecaster_dir, windows, timeout=timeout)
    return compare(bundle_file, reference, tolerance, min_agreement=min_agreement, int8=int8, timeout=timeout)


def ensure_reference(forecaster_dir: Path, windows: np.ndarray, *, timeout: float = 300.0) -> Reference:
    """Return the Keras answers on these windows, computed in a child process unless they are stored."""
    forecaster_dir = Path(forecaster_dir)
    windows = checked_windows(windows, load_meta(forecaster_dir))
    if (reference := stored_reference(forecaster_dir, windows)) is not None:
        return reference
    with tempfile.TemporaryDirectory(prefix="klinecast-") as folder:
        file = Path(folder) / "windows.npy"
        np.save(file, windows, allow_pickle=False)
        run_child(
            (*module_command("training.export.parity"), "reference"),
            {"forecaster": forecaster_dir, "windows": file},
            doing="computing the reference outputs",
            timeout=timeout,
        )
    return load_reference(reference_path(forecaster_dir, windows))


def compare(
    file: Path,
    reference: Reference,
    tolerance: float | None = FLOAT_TOLERANCE,
    *,
    min_agreement: float | None = None,
    int8: Int8Interface | None = None,
    timeout: float = 300.0,
) -> ParityReport:
    """Run a file in a plain process and compare its answers with a reference; see :func:`check_parity`."""
    found = run_exported(file, reference.windows, int8=int8, timeout=timeout)
    for name in OUTPUTS:
        expected: np.ndarray = getattr(reference, name)
        if found[name].shape != expected.shape or not np.isfinite(found[name]).all():
            raise ParityError(
                f"output {name} has shape {found[name].shape}, expected {expected.shape}, all finite",
                where=str(file),
                remedy="export the model again",
            )
    differences = {name: np.abs(found[name] - getattr(reference, name)) for name in OUTPUTS}
    for name in ("quantiles", "volatility"):
        unit = np.maximum(reference.horizon_volatility[:, None], np.abs(getattr(reference, name)))
        # No volatility at all: all of these are 0.
        differences[name] /= np.maximum(unit, np.finfo(np.float32).tiny)
    same = found["direction"].argmax(axis=1) == reference.direction.argmax(axis=1)
    return ParityReport(
        runtime=runtime_of(file),
        windows=len(reference.windows),
        max_abs_difference={name: float(values.max()) for name, values in differences.items()},
        mean_abs_difference={name: float(values.mean()) for name, values in differences.items()},
        agreement=float(same.mean()),
        tolerance=tolerance,
        min_agreement=min_agreement,
        decision_flips={
            name: float((decisions(found["direction"], at) != decisions(reference.direction, at)).mean())
            for name, at in (("most_probable", None), ("threshold", DECISION_THRESHOLD))
        },
        decision_threshold=DECISION_THRESHOLD,
        int8=int8,
    )


def decisions(direction: np.ndarray, threshold: float | None) -> np.ndarray:
    """What to trade on probabilities (n, 3) of down, flat and up: (n,) of -1, 0, 1.

    With a threshold the more probable of the two sides, if it reaches it; without one the most probable class.
    """
    if threshold is None:
        return direction.argmax(axis=1) - 1
    sides = direction[:, [DOWN, UP]]
    return np.where(sides.max(axis=1) >= threshold, 2 * sides.argmax(axis=1) - 1, 0)


def run_exported(
    file: Path, windows: np.ndarray, *, int8: Int8Interface | None = None, timeout: float = 300.0
) -> dict[str, np.ndarray]:
    """Answers of an exported file on windows (n, window, F), from a process without TensorFlow.

    Raises
    ------
    ParityError
        The file cannot be opened or run; a crash of the runtime is told the same way.
    """
    runtime_of(file)
    with tempfile.TemporaryDirectory(prefix="klinecast-") as folder:
        given, answers = Path(folder) / "windows.npy", Path(folder) / "answers.npz"
        np.save(given, windows, allow_pickle=False)
        options: dict[str, Path | str] = {"file": file, "windows": given, "out": answers}
        if int8 is not None:
            options["int8"] = int8.model_dump_json()
        try:
            run_child(
                (*module_command("training.export.parity"), "run"),
                options,
                doing=f"running {file.name}",
                timeout=timeout,
            )
        except TrainingError as error:
            raise ParityError(
                f"the exported model cannot be run: {error.what}",
                where=str(file),
                remedy="export the model again; if that fails too, report the versions in the manifest",
            ) from error
        with np.load(answers, allow_pickle=False) as stored:
            return {name: stored[name] for name in OUTPUTS}


def runtime_of(file: Path) -> Runtime:
    """Name of the runtime for a file, by its ending."""
    runtimes: dict[str, Runtime] = {".onnx": "onnxruntime", ".tflite": "litert"}
    if file.suffix not in runtimes:
        raise ParityError(
            f"{file.name} is neither .onnx nor .tflite", where=str(file), remedy="give an exported model file"
        )
    return runtimes[file.suffix]


def open_exported(file: Path, int8: Int8Interface | None = None) -> Predict:
    """Open an exported file in this process, on one thread; returns windows -> {output name: array}."""
    if runtime_of(file) == "litert":
        return _open_tflite(file, int8)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda windows: dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"window": windows}), strict=True))


def _open_tflite(file: Path, int8: Int8Interface | None) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()
    if int8 is None:
        return lambda windows: dict(signature(window=windows))

    def call(integers: np.ndarray) -> dict[str, np.ndarray]:
        interpreter.reset_all_variables()  # its LSTM would go on from the window before
        return dict(signature(window=integers))

    return int8.around(call)


def main(arguments: list[str] | None = None) -> None:
    """Child process: compute the reference outputs, or run an exported file."""
    parser = argparse.ArgumentParser(prog="python -m training.export.parity")
    actions = parser.add_subparsers(dest="action", required=True)
    reference = actions.add_parser("reference", help="store what the Keras model answers")
    reference.add_argument("--forecaster", type=Path, required=True)
    run = actions.add_parser("run", help="store what an exported file answers; no TensorFlow")
    run.add_argument("--file", type=Path, required=True)
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--int8", type=Int8Interface.model_validate_json)
    for action in (reference, run):
        action.add_argument("--windows", type=Path, required=True)
    given = parser.parse_args(arguments)
    windows = np.load(given.windows, allow_pickle=False)
    if given.action == "reference":
        from training.network.forecaster_files import load_forecaster

        model, meta = load_forecaster(given.forecaster)
        store_reference(model, meta, windows, given.forecaster)
        return
    answers = open_exported(given.file, given.int8)(windows)
    if loaded := {"tensorflow", "keras"} & sys.modules.keys():
        raise SystemExit(f"a consumer would not have {sorted(loaded)}")
    np.savez(given.out, allow_pickle=False, **{name: answers[name] for name in OUTPUTS})


if __name__ == "__main__":
    main()
