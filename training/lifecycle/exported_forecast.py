"""Forecasts of an exported ONNX file, in this process, without Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError
from training.evaluate import Forecast, PredictFn
from training.export.inference_graph import INPUT_NAME

BATCH = 512
"""Windows in one call; a float file answers each of them independently of the others."""


class ExportedForecastError(TrainingError):
    """An exported file cannot be run."""


def onnx_predict_fn(file: Path, *, threads: int = 0) -> PredictFn:
    """Return a function from windows (n, window, F) to the forecasts of an ONNX file.

    Parameters
    ----------
    file
        A file with input `window` and outputs `direction`, `quantiles` and, if it has one, `volatility`.
    threads
        Inside one call; 0 for as many as there are cores.

    Raises
    ------
    ExportedForecastError
        The file is none that onnxruntime can run, now or on the windows that it is given.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each status, without a common one
        raise _unusable(file, error) from error
    names = [output.name for output in session.get_outputs()]

    def predict(windows: NDArray[np.float32]) -> Forecast:
        parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        for start in range(0, len(windows), BATCH):
            given = np.ascontiguousarray(windows[start : start + BATCH], np.float32)
            try:
                answers = session.run(names, {INPUT_NAME: given})
            except Exception as error:
                raise _unusable(file, error) from error
            for name, answer in zip(names, answers, strict=True):
                parts[name].append(answer)
        said = {name: np.concatenate(found) for name, found in parts.items()}
        volatility = said.get("volatility")
        return Forecast(
            said["direction"], said["quantiles"], None if volatility is None else volatility[:, 0]
        )

    return predict


def _unusable(file: Path, error: Exception) -> ExportedForecastError:
    return ExportedForecastError(
        f"{file.name} cannot be run: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        where=str(file),
        remedy="export the model again: klinecast run train_and_export",
    )
