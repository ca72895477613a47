"""Running a bundle's model on windows of raw features, the same bits for a window every time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.errors import ServingError
from serving.forms import DIRECTION, QUANTILES, VOLATILITY, open_form

CHUNK: Final = 16
"""Windows in one run of the model. Fixed, and short batches are padded to it: which kernel computes a matrix
product depends on its shape, so a window's answer could otherwise differ in its last bits with the number of
its neighbours."""

THREADS: Final = 2


@dataclass(frozen=True)
class Forecasts:
    """Answers for N windows.

    Attributes
    ----------
    direction
        (N, classes) float32 probabilities.
    quantiles
        (N, quantiles) float32, quantiles of the log return over the horizon.
    volatility
        (N, 1) float32, realised volatility over the horizon; None where the bundle was made before there was
        this output.
    """

    direction: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    volatility: NDArray[np.float32] | None

    def outputs(self) -> dict[str, NDArray[np.float32]]:
        """Name in the model to answers."""
        found = {DIRECTION: self.direction, QUANTILES: self.quantiles}
        return found if self.volatility is None else {**found, VOLATILITY: self.volatility}

    def usable(self) -> NDArray[np.bool_]:
        """(N,) bool: the model gave finite numbers."""
        answers = np.concatenate(list(self.outputs().values()), axis=1)
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
        The runtime cannot load the model, or the model is not what the manifest says.
    """

    def __init__(self, bundle: Bundle, threads: int = THREADS) -> None:
        self.bundle = bundle
        self.threads = max(1, threads)
        self._form = open_form(bundle, bundle.model_file)

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
            np.empty((len(windows), 1), np.float32) if VOLATILITY in self.bundle.outputs else None,
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
        said = self._form(batch)
        for name, answers in forecasts.outputs().items():
            answers[start : start + len(chunk)] = said[name][: len(chunk)]
