"""Opening the exported forms of a model: ONNX under onnxruntime, TFLite under LiteRT, each on one thread a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.errors import BundleError

INPUT: Final = "window"
DIRECTION: Final = "direction"
QUANTILES: Final = "quantiles"
VOLATILITY: Final = "volatility"

Run = Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]]
"""Windows (batch, window, F) to the outputs by name; BundleError if it fails. Safe for several threads at once."""


def open_form(bundle: Bundle, name: str) -> Run:
    """Open one of a bundle's model files.

    Raises
    ------
    BundleError
        The runtime cannot load it, or it is not what the manifest says.
    """
    return _open_tflite(bundle, name) if name.endswith(".tflite") else _open_onnx(bundle, name)


def _open_onnx(bundle: Bundle, name: str) -> Run:
    session = _session(bundle, name)
    inputs = {entry.name: _sizes(entry.shape) for entry in session.get_inputs()}
    outputs = {entry.name: _sizes(entry.shape) for entry in session.get_outputs()}
    _check_signature(bundle, name, inputs, outputs)
    wanted = _wanted(bundle)

    def run(batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        try:
            return dict(zip(wanted, session.run(wanted, {INPUT: batch}), strict=True))
        except Exception as error:  # onnxruntime raises a class of its own for every kind of fault
            raise _unusable(bundle, name, f"onnxruntime {ort.__version__} cannot run", error) from error

    return run


def _open_tflite(bundle: Bundle, name: str) -> Run:
    """Interpreters hold their tensors, so that each serves one thread at a time; more are made when needed."""
    content = bundle.read(name)

    def interpreter() -> Any:
        from ai_edge_litert.interpreter import Interpreter

        try:
            return Interpreter(model_content=content, num_threads=1).get_signature_runner()
        except (RuntimeError, ValueError) as error:
            raise _unusable(bundle, name, "LiteRT cannot load", error) from error

    first = interpreter()
    inputs = {key: _sizes(entry["shape_signature"]) for key, entry in first.get_input_details().items()}
    outputs = {key: _sizes(entry["shape_signature"]) for key, entry in first.get_output_details().items()}
    _check_signature(bundle, name, inputs, outputs)
    idle: SimpleQueue[Any] = SimpleQueue()
    idle.put(first)

    def run(batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        try:
            runner = idle.get_nowait()
        except Empty:
            runner = interpreter()
        try:
            return {key: np.array(value) for key, value in runner(**{INPUT: batch}).items()}
        except (RuntimeError, ValueError) as error:
            raise _unusable(bundle, name, "LiteRT cannot run", error) from error
        finally:
            idle.put(runner)

    return run


def _wanted(bundle: Bundle) -> list[str]:
    return [DIRECTION, QUANTILES, *([VOLATILITY] if VOLATILITY in bundle.outputs else [])]


def _session(bundle: Bundle, name: str) -> Any:
    options = ort.SessionOptions()
    # One thread inside a run: chunks are the unit of parallel work, and no spinning threads stay behind.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    content = bundle.read(name)
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for every kind of fault
        raise _unusable(bundle, name, f"onnxruntime {ort.__version__} cannot load", error) from error


def _unusable(bundle: Bundle, name: str, problem: str, error: Exception) -> BundleError:
    return BundleError(
        f"{problem} the model: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        where=str(bundle.folder / name),
        remedy="use the versions of the lock file, or export the model again",
    )


def _check_signature(
    bundle: Bundle,
    name: str,
    inputs: Mapping[str, tuple[int | None, ...]],
    outputs: Mapping[str, tuple[int | None, ...]],
) -> None:
    expected_inputs = {INPUT: (bundle.window, len(bundle.feature_names))}
    expected_outputs: dict[str, tuple[int, ...]]
    expected_outputs = {DIRECTION: (len(bundle.classes),), QUANTILES: (len(bundle.quantiles),)}
    if VOLATILITY in bundle.outputs:
        expected_outputs[VOLATILITY] = (1,)
    for kind, found, expected in (("input", inputs, expected_inputs), ("output", outputs, expected_outputs)):
        if not _fits(found, expected, exactly=kind == "input"):
            raise BundleError(
                f"the model's {kind}s are not those of the manifest:"
                f" {_told(expected)} expected, {_told(found)} found",
                where=str(bundle.folder / name),
                remedy="export the model again: klinecast run train_and_export",
            )


def _sizes(shape: Any) -> tuple[int | None, ...]:
    """Sizes behind the batch axis; None = left open by the graph."""
    sizes = [int(size) if isinstance(size, int | np.integer) else None for size in list(shape)[1:]]
    return tuple(size if size is not None and size >= 0 else None for size in sizes)


def _fits(
    found: Mapping[str, tuple[int | None, ...]], expected: Mapping[str, tuple[int, ...]], exactly: bool
) -> bool:
    if exactly and set(found) != set(expected):
        return False
    return all(
        name in found
        and (not found[name] or len(found[name]) == len(sizes))
        and all(a is None or a == b for a, b in zip(found[name], sizes, strict=False))
        for name, sizes in expected.items()
    )


def _told(entries: Mapping[str, tuple[int | None, ...]]) -> str:
    return ", ".join(f"{name}(N{''.join(f', {size}' for size in sizes)})" for name, sizes in entries.items())
