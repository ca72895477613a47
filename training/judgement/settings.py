"""What a person decides about a judgement."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from training.baselines.registry import BASELINES

OWN_LIMITS = ("max_windows", "validation_windows", "epochs")
"""Settings of the forecaster that a judgement has its own of."""


class JudgementSettings(BaseModel):
    """How a forecaster is judged; immutable, kept with the result.

    Costs are per side, on what is traded: entering and leaving a position costs twice their sum.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folds: int = Field(default=4, ge=1, description="walk-forward test spans")
    min_train_share: float = Field(
        default=0.5, gt=0, lt=1, description="share of the time span before the first test"
    )
    baselines: tuple[str, ...] = Field(default=tuple(BASELINES), description="forecasts to compare with")
    draws: int = Field(default=1_000, ge=20, description="resampled data sets for the intervals")
    block_horizons: int = Field(default=8, ge=1, description="length of a bootstrap block, in horizons")
    level: float = Field(default=0.95, gt=0, lt=1, description="of the two-sided intervals")
    fee_bps: float = Field(default=5.0, ge=0, description="fee per side, in 1/10,000 of what is traded")
    slippage_bps: float = Field(default=1.0, ge=0, description="slippage per side, likewise")
    trade_share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="share of bars acted on, the surest ones, as on the validation rows",
    )
    seed: int = Field(default=1, ge=0, lt=2**31)

    def block_bars(self, horizon: int) -> int:
        """Bars in a bootstrap block."""
        return self.block_horizons * horizon

    @property
    def cost(self) -> float:
        """Cost per side, as a share of what is traded."""
        return (self.fee_bps + self.slippage_bps) / 10_000
