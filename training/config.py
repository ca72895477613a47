"""Settings of the forecaster: what it sees, what it predicts, its size and how it is trained."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

CLASSES = ("down", "flat", "up")
"""Direction classes; the position is the label and the column of the `direction` output."""

DOWN, FLAT, UP = range(3)

Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
PrecisionSetting = Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"]
TargetPositions = Literal["last", "every"]


class ForecasterConfig(BaseModel):
    """Everything about a forecaster that a person decides; immutable, stored with its weights.

    Windows, horizons and embargoes are counted in bars of the model's interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # What it sees and predicts
    window: int = Field(default=64, ge=2, description="bars in one input window, the last one closed at t")
    horizon: int = Field(default=6, ge=1, description="bars ahead that the return is predicted for")
    flat_band: float = Field(
        default=0.5, gt=0, description="|return| up to this many horizon volatilities is flat"
    )
    quantiles: tuple[float, ...] = Field(default=(0.1, 0.5, 0.9), description="return quantiles predicted")
    volatility_feature: str | None = Field(
        default=None,
        description="feature that scales the targets; needed only if several realised_vol_<n> exist",
    )

    # Architecture
    width: int = Field(default=32, ge=4, description="width of the residual stream")
    heads: int = Field(default=4, ge=1)
    blocks: int = Field(default=1, ge=1)
    lstm_units: int = Field(default=32, ge=1)
    ff: int = Field(default=64, ge=1, description="width inside the feed-forward part of a block")
    hidden: int = Field(default=32, ge=1, description="units of the layer before the two heads")
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="high, since returns are nearly all noise; docs/controls.md"
    )

    # Data
    train_share: float = Field(default=0.70, gt=0, lt=1, description="of the time span")
    validation_share: float = Field(
        default=0.15, gt=0, lt=1, description="of the time span; the rest is test"
    )
    extra_embargo: int = Field(default=0, ge=0, description="bars of embargo beyond the horizon")
    max_windows: int = Field(
        default=40_000, ge=1, description="training windows kept; the rest is left out evenly"
    )

    validation_windows: int = Field(
        default=8_000, ge=1, description="validation windows judged after each epoch"
    )

    # Training
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, description="peak of warm-up and cosine decay")
    patience: int = Field(
        default=3, ge=1, description="epochs without a better validation loss before stopping"
    )
    calibrate: bool = Field(
        default=True,
        description="correct the outputs, inside the graph, by what came in the validation split",
    )
    seed: int = Field(default=1, ge=0, lt=2**31)
    precision: PrecisionSetting = Field(
        default="auto",
        description="auto, float32, mixed_float16 or mixed_bfloat16; auto: as the machine has it",
    )
    jit_compile: bool | None = Field(
        default=None, description="compile the training step with XLA; by default as the machine has it"
    )
    targets: TargetPositions = Field(
        default="last",
        description="last: one target per window; every: causal, every bar of a window is a target",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.train_share + self.validation_share >= 1:
            raise ValueError("train_share + validation_share must leave a share for the test split")
        rising = all(low < high for low, high in pairwise(self.quantiles))
        if not self.quantiles or not rising or self.quantiles[0] <= 0 or self.quantiles[-1] >= 1:
            raise ValueError(f"quantiles must rise strictly inside (0, 1), not {self.quantiles}")
        return self

    @property
    def embargo(self) -> int:
        """Bars left out after each split boundary: the horizon and the extra setting."""
        return self.horizon + self.extra_embargo


class Normalisation(BaseModel):
    """Per-feature mean and standard deviation of the training span; part of the model graph."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip: float = Field(default=8.0, gt=0, description="standardised values are cut to [-clip, clip]")

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} standard deviations")
        if (
            not np.isfinite(self.mean).all()
            or not np.isfinite(self.std).all()
            or min(self.std, default=1) <= 0
        ):
            raise ValueError("means must be finite and standard deviations finite and positive")
        return self


class Calibration(BaseModel):
    """Corrections of a forecaster's outputs, part of the model graph; those of `Calibration()` change nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=1.0, gt=0, description="logits are divided by it")
    step_scales: tuple[float, ...] = Field(
        default=(),
        description="factors of the steps between neighbouring quantiles, in their order; empty: all 1",
    )
    volatility_factor: float = Field(default=1.0, gt=0, description="the volatility is multiplied by it")
    rows: int = Field(default=0, ge=0, description="validation windows that it was fitted on; 0: it was not")

    @model_validator(mode="after")
    def _usable(self) -> Self:
        numbers = (self.temperature, *self.step_scales, self.volatility_factor)
        if not np.isfinite(numbers).all() or min(numbers) <= 0:
            raise ValueError("temperature, step scales and volatility factor must be finite and positive")
        return self
