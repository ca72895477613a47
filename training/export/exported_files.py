"""Running exported files, on one thread and without TensorFlow: `python -m training.export.exported_files`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from training.child_process import module_command, run_child
from training.errors import TrainingError
from training.export.inference_graph import OUTPUT_NAMES

OUTPUTS = OUTPUT_NAMES

Runtime = Literal["onnxruntime", "litert"]
Predict = Callable[[np.ndarray], dict[str, np.ndarray]]


class ParityError(TrainingError):
    """An exported file does not run, or does not answer as the Keras model does."""


def run_exported(file: Path, windows: np.ndarray, *, timeout: float = 300.0) -> dict[str, np.ndarray]:
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
        try:
            run_child(
                module_command("training.export.exported_files"),
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


def open_exported(file: Path) -> Predict:
    """Open an exported file in this process, on one thread; returns windows -> {output name: array}."""
    if runtime_of(file) == "litert":
        return _open_tflite(file)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda windows: dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"window": windows}), strict=True))


def _open_tflite(file: Path) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()
    return lambda windows: dict(signature(window=windows))


def main(arguments: list[str] | None = None) -> None:
    """Child process: store what an exported file answers."""
    parser = argparse.ArgumentParser(prog="python -m training.export.exported_files")
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--windows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    answers = open_exported(given.file)(np.load(given.windows, allow_pickle=False))
    if loaded := {"tensorflow", "keras"} & sys.modules.keys():
        raise SystemExit(f"a consumer would not have {sorted(loaded)}")
    np.savez(given.out, allow_pickle=False, **{name: answers[name] for name in OUTPUTS})


if __name__ == "__main__":
    main()
