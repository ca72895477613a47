"""How an integer-only file takes windows and gives answers: what a consumer computes before and after it.

One scale for all features cannot hold raw features, which differ by orders of magnitude, so the input of such
a file is standardised by the consumer, with a step of its own for each feature, and a window must be complete:
integers know no NaN. Its outputs are in units that suit 256 levels: probabilities, and multiples of the
volatility known at the last bar, over the horizon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

_LEVELS = 127
_NARROWEST = 0.1  # standard deviations: a feature that hardly varies gets no finer steps
_VOLATILITIES = ("quantiles", "volatility")


class Int8Output(BaseModel):
    """value = scale * (integer - zero_point)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float
    zero_point: int


class Int8Interface(BaseModel):
    """Parameters of an integer-only file.

    integer = clip(round((x - mean) / step) + zero_point, -128, 127), feature by feature.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int = Field(ge=1, description="windows in one call, no more and no less")
    mean: tuple[float, ...] = Field(description="of each feature")
    step: tuple[float, ...] = Field(description="of each feature, what one integer more means")
    zero_point: int = Field(description="integer of the mean")
    outputs: dict[str, Int8Output] = Field(description="per output: scale and zero point")
    volatility_index: int = Field(description="position of `volatility_feature` in a window")
    volatility_factor: float = Field(
        description="quantiles and volatility are multiples of this times the last bar's volatility_feature"
    )

    def integers(self, windows: NDArray[np.float32]) -> NDArray[np.int8]:
        """Complete raw windows (n, window, F) as the file takes them."""
        mean, step = np.asarray(self.mean), np.asarray(self.step)
        return np.clip(np.round((windows - mean) / step) + self.zero_point, -128, 127).astype(np.int8)

    def answers(
        self, integers: dict[str, NDArray[np.int8]], windows: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """What the file gave for `windows`, in the units of the float files."""
        found = {
            name: np.float32(spec.scale) * (integers[name].astype(np.float32) - spec.zero_point)
            for name, spec in self.outputs.items()
        }
        unit = windows[:, -1, self.volatility_index, None] * np.float32(self.volatility_factor)
        return {name: value * unit if name in _VOLATILITIES else value for name, value in found.items()}

    def around(
        self, call: Callable[[NDArray[np.int8]], dict[str, Any]]
    ) -> Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
        """Wrap a call of the file into one that takes raw windows, as many as there are, complete or not."""

        def predict(windows: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            whole: NDArray[np.bool_] = np.asarray(np.isfinite(windows).all(axis=(1, 2)))
            given = np.where(whole[:, None, None], windows, np.asarray(self.mean, np.float32))
            padded = np.resize(
                self.integers(given), (-(-len(given) // self.batch) * self.batch, *given.shape[1:])
            )
            parts = [call(padded[k : k + self.batch]) for k in range(0, len(padded), self.batch)]
            joined = {
                name: np.concatenate([part[name] for part in parts])[: len(given)] for name in self.outputs
            }
            answers = self.answers(joined, given)
            return {
                name: np.where(whole[:, None], value, np.nan).astype(np.float32)
                for name, value in answers.items()
            }

        return predict


def feature_steps(standardised: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviations per integer: (..., F) standardised windows of the training span to (F,)."""
    largest = np.abs(standardised).max(axis=tuple(range(standardised.ndim - 1)))
    return np.asarray(np.maximum(largest, _NARROWEST) / _LEVELS, np.float32)
