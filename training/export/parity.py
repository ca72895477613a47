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
import tempfile
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from training.child_process import module_command, run_child
from training.config import DOWN, UP
from training.export.exported_files import OUTPUTS, ParityError, Runtime, run_exported, runtime_of
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


class ParityReport(BaseModel):
    """How an exported file compares with the Keras model."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # manifests of old have one field more, `int8`

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
    return compare(bundle_file, reference, tolerance, min_agreement=min_agreement, timeout=timeout)


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
            module_command("training.export.parity"),
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
    timeout: float = 300.0,
) -> ParityReport:
    """Run a file in a plain process and compare its answers with a reference; see :func:`check_parity`."""
    found = run_exported(file, reference.windows, timeout=timeout)
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
    )


def decisions(direction: np.ndarray, threshold: float | None) -> np.ndarray:
    """What to trade on probabilities (n, 3) of down, flat and up: (n,) of -1, 0, 1.

    With a threshold the more probable of the two sides, if it reaches it; without one the most probable class.
    """
    if threshold is None:
        return direction.argmax(axis=1) - 1
    sides = direction[:, [DOWN, UP]]
    return np.where(sides.max(axis=1) >= threshold, 2 * sides.argmax(axis=1) - 1, 0)


def main(arguments: list[str] | None = None) -> None:
    """Child process: compute the reference outputs."""
    from training.network.forecaster_files import load_forecaster

    parser = argparse.ArgumentParser(prog="python -m training.export.parity")
    parser.add_argument("--forecaster", type=Path, required=True)
    parser.add_argument("--windows", type=Path, required=True)
    given = parser.parse_args(arguments)
    model, meta = load_forecaster(given.forecaster)
    store_reference(model, meta, np.load(given.windows, allow_pickle=False), given.forecaster)


if __name__ == "__main__":
    main()
