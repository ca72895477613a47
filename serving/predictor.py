"""Running a bundle's model: onnxruntime on windows of raw features, the same bits for a window every time."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.errors import BundleError, ServingError

CHUNK: Final = 16
"""Windows in one run of the model. Fixed, and short batches are padded to it: which kernel computes a matrix
product depends on its shape, so a window's answer could otherwise differ in its last bits with the number of
its neighbours."""

THREADS: Final = 2

INPUT: Final = "window"
DIRECTION: Final = "direction"
QUANTILES: Final = "quantiles"


@dataclass(frozen=True)
class Forecasts:
    """Answers for N windows.

    Attributes
    ----------
    direction
        (N, classes) float32 probabilities.
    quantiles
        (N, quantiles) float32, quantiles of the log return over the horizon.
    """

    direction: NDArray[np.float32]
    quantiles: NDArray[np.float32]

    def usable(self) -> NDArray[np.bool_]:
        """(N,) bool: the model gave finite numbers."""
        answers = np.concatenate([self.direction, self.quantiles], axis=1)
        return np.asarray(np.isfinite(answers).all(axis=1))


class Predictor:
    """A bundle's model, ready to run. Safe for several threads at once.

    Parameters
    ----------
    bundle
        From `load_bundle`.
    threads
        Chunks that run at the same time; changes no bit of the result.

    Raises
    ------
    BundleError
        onnxruntime cannot load the model, or the model is not what the manifest says.
    """

    def __init__(self, bundle: Bundle, threads: int = THREADS) -> None:
        self.bundle = bundle
        self.threads = max(1, threads)
        self._session = _session(bundle)
        _check_signature(bundle, self._session)

    def predict(self, windows: NDArray[np.float32]) -> Forecasts:
        """Predict.

        Parameters
        ----------
        windows
            (N, window, F) float32 raw features, F in the bundle's order; normalisation is inside the model.

        Returns
        -------
        Forecasts
            NaN for a window that the model cannot judge.

        Raises
        ------
        ServingError
            The windows are of another shape or dtype.
        """
        shape = (self.bundle.window, len(self.bundle.feature_names))
        if windows.ndim != 3 or windows.shape[1:] != shape or windows.dtype != np.float32:
            raise ServingError(
                f"windows are {windows.dtype} {windows.shape}, not float32 (N, {shape[0]}, {shape[1]})",
                where=f"model {self.bundle.version}",
                remedy="cut windows with kernels.windows from the bundle's feature_names, in their order",
            )
        forecasts = Forecasts(
            np.empty((len(windows), len(self.bundle.classes)), np.float32),
            np.empty((len(windows), len(self.bundle.quantiles)), np.float32),
        )
        starts = range(0, len(windows), CHUNK)
        workers = min(self.threads, len(starts))
        if workers <= 1:
            for start in starts:
                self._run(windows, start, forecasts)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(lambda start: self._run(windows, start, forecasts), starts))
        return forecasts

    def _run(self, windows: NDArray[np.float32], start: int, forecasts: Forecasts) -> None:
        """Judge one chunk; chunks write to rows of their own."""
        chunk = windows[start : start + CHUNK]
        batch = np.empty((CHUNK, *windows.shape[1:]), np.float32)
        batch[: len(chunk)] = chunk
        batch[len(chunk) :] = chunk[0]
        direction, quantiles = self._session.run([DIRECTION, QUANTILES], {INPUT: batch})
        forecasts.direction[start : start + len(chunk)] = direction[: len(chunk)]
        forecasts.quantiles[start : start + len(chunk)] = quantiles[: len(chunk)]


def _session(bundle: Bundle) -> Any:
    options = ort.SessionOptions()
    # One thread inside a run: chunks are the unit of parallel work, and no spinning threads stay behind.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(
            bundle.read(bundle.model_file), options, providers=["CPUExecutionProvider"]
        )
    except BundleError:
        raise
    except Exception as error:  # onnxruntime raises a class of its own for every kind of fault
        raise BundleError(
            f"onnxruntime {ort.__version__} cannot load the model: {str(error).splitlines()[0]}",
            where=str(bundle.folder / bundle.model_file),
            remedy="use the onnxruntime version of the lock file, or export the model again",
        ) from error


def _check_signature(bundle: Bundle, session: Any) -> None:
    inputs = {entry.name: _sizes(entry) for entry in session.get_inputs()}
    outputs = {entry.name: _sizes(entry) for entry in session.get_outputs()}
    expected_inputs = {INPUT: (bundle.window, len(bundle.feature_names))}
    expected_outputs = {DIRECTION: (len(bundle.classes),), QUANTILES: (len(bundle.quantiles),)}
    for kind, found, expected in (("input", inputs, expected_inputs), ("output", outputs, expected_outputs)):
        if not _fits(found, expected, exactly=kind == "input"):
            raise BundleError(
                f"the model's {kind}s are not those of the manifest:"
                f" {_told(expected)} expected, {_told(found)} found",
                where=str(bundle.folder / bundle.model_file),
                remedy="export the model again: klinecast run train_and_export",
            )


def _sizes(entry: Any) -> tuple[int | None, ...]:
    """Sizes behind the batch axis; None = left open by the graph."""
    return tuple(size if isinstance(size, int) else None for size in entry.shape[1:])


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
